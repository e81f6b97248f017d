//! What an operator does with its node: having it examined, losing its parts, draining it, changing its key.

use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::world::{World, eventually, text};

const OPERATORS: [&str; 3] = ["operator-1", "operator-2", "operator-3"];
const NEW_SIGNER: &str = "0x00000000000000000000000000000000000a11ce";

#[test]
fn an_operator_is_examined_killed_drained_and_given_a_new_key() {
    let world = World::start();
    let database = database(&world, "auspex_operator_1");

    let status = world.run(&["operator", "status", "--as", "operator-2"]);
    assert!(text(&status["owner"]).eq_ignore_ascii_case(&owner(&world, 1)), "{status}");
    let error = world.refused(&["operator", "status", "--as", "payee-1"]);
    assert!(error.contains("operator-3"), "{error}");
    let findings = world.run(&["operator", "doctor", "--operator-set", "1"]);
    for subject in ["signer", "roles", "contracts", "registration", "gas", "membership"] {
        assert_eq!(verdict(&findings, subject), "good", "{findings:#}");
    }
    for subject in ["database", "durability", "corpus", "model", "indexer", "node"] {
        assert_eq!(verdict(&findings, subject), "good", "{findings:#}");
    }
    let stranger = owner(&world, 1);
    let error = world.refused(&[
        "operator",
        "doctor",
        "--owner",
        &stranger,
        "--database-url",
        &database,
        "--device",
        "cpu",
    ]);
    assert!(error.contains("checks found something"), "{error}");

    // Every signer and every model dies; the request is answered all the same.
    for name in OPERATORS {
        world.signal(&format!("{name}-signer"), Signal::SIGKILL);
        kill(model_of(world.pid(name)), Signal::SIGKILL).expect("a model process");
    }
    let request =
        world.submit(&world.native_offer(), "How does the indexer follow a reorg?", "direct");
    assert_eq!(world.watch(&request)["status"], "settled");
    no_secret_in_any_log(&world);

    let progress = world.run(&["operator", "drain", "--database-url", &database]);
    assert_eq!(progress["draining"], true);
    assert_eq!(progress["promised"], 0);
    let progress = world.run(&["operator", "drain", "--as", "operator-1", "--resume"]);
    assert_eq!(progress["draining"], false);

    a_new_key_takes_over_and_the_old_one_is_revoked(&world);
    the_set_is_handed_over(&world);
    an_operator_without_a_key_is_dropped_and_leaves_with_its_bond(&world);
}

fn a_new_key_takes_over_and_the_old_one_is_revoked(world: &World) {
    let old = text(&world.market()["operators"][0]["signer"]);
    let new = NEW_SIGNER;
    let rotate = [
        "operator",
        "rotate-signer",
        "--new-signer",
        new,
        "--operator-set",
        "1",
        "--as",
        "operator-1",
    ];
    assert_eq!(world.run(&rotate)["state"], "announced");
    assert_eq!(world.run(&rotate)["state"], "announced", "asking again changes nothing");
    world.rpc("evm_increaseTime", &serde_json::json!([24 * 60 * 60 + 1]));
    world.rpc("anvil_mine", &serde_json::json!(["0x1"]));
    assert_eq!(world.run(&rotate)["state"], "active");
    let set = world.run(&["operator-set", "show", "1"]);
    let signers = set["signers"].as_array().expect("signers");
    assert!(signers.iter().any(|signer| text(signer).eq_ignore_ascii_case(new)), "{set}");

    let revoke = ["operator", "revoke", "--signer", &old, "--as", "operator-1"];
    assert!(world.refused(&revoke).contains("--yes"));
    world.run(&[&revoke[..], &["--yes"]].concat());
    assert!(world.refused(&[&revoke[..], &["--yes"]].concat()).contains("NotOwnSigner"));
}

fn the_set_is_handed_over(world: &World) {
    let successor = owner(world, 1);
    world.run(&["operator-set", "hand-over", "1", "--to", &successor, "--as", "deployer"]);
    let set = world.run(&["operator-set", "show", "1"]);
    assert!(text(&set["pendingAdmin"]).eq_ignore_ascii_case(&successor), "{set}");
    let error = world.refused(&["operator-set", "accept", "1", "--as", "operator-3"]);
    assert!(error.contains("NotPendingSetAdmin"), "{error}");
    world.run(&["operator-set", "accept", "1", "--as", "operator-2"]);
    let set = world.run(&["operator-set", "show", "1"]);
    assert!(text(&set["admin"]).eq_ignore_ascii_case(&successor), "{set}");
    assert!(set["pendingAdmin"].is_null(), "{set}");
}

fn an_operator_without_a_key_is_dropped_and_leaves_with_its_bond(world: &World) {
    let leave = ["operator-set", "leave", "1", "--as", "operator-1"];
    assert!(world.refused(&leave).contains("StillMember"));
    world.run(&["operator", "revoke", "--signer", NEW_SIGNER, "--yes", "--as", "operator-1"]);
    world.run(&["operator-set", "refresh", "1", "--as", "operator-3"]);
    let set = world.run(&["operator-set", "show", "1"]);
    assert_eq!(set["operators"].as_array().map(Vec::len), Some(2), "{set}");

    world.run(&leave);
    let leaver = owner(world, 0);
    let release = ["operator-set", "release", "1", "--owner", &leaver, "--as", "operator-2"];
    assert!(world.refused(&release).contains("TooEarly"));
    world.rpc("evm_increaseTime", &serde_json::json!([14 * 24 * 60 * 60 + 1]));
    world.rpc("anvil_mine", &serde_json::json!(["0x1"]));
    let released = world.run(&release);
    assert_eq!(released["amount"], "50000000000000000", "{released}");
    assert!(!text(&released["to"]).eq_ignore_ascii_case(&leaver), "{released}");
}

#[track_caller]
fn verdict(findings: &Value, subject: &str) -> String {
    let found = findings.as_array().into_iter().flatten().find(|f| f["subject"] == subject);
    text(&found.unwrap_or_else(|| panic!("{subject} was not looked at: {findings:#}"))["verdict"])
}

fn owner(world: &World, number: usize) -> String {
    text(&world.market()["operators"][number]["owner"])
}

fn database(world: &World, name: &str) -> String {
    text(&world.file()["databaseUrl"]).replace("auspex_indexer", name)
}

/// The child of a node that runs the model.
fn model_of(node: u32) -> Pid {
    let wanted = format!("\nPPid:\t{node}\n");
    let pid = eventually("the node has a model process", || {
        processes().into_iter().find_map(|(pid, folder)| {
            let status = std::fs::read_to_string(folder.join("status")).ok()?;
            let command = std::fs::read(folder.join("cmdline")).ok()?;
            let works = command.split(|byte| *byte == 0).any(|part| part == b"worker");
            (status.contains(&wanted) && works).then_some(pid)
        })
    });
    Pid::from_raw(pid)
}

fn processes() -> Vec<(i32, PathBuf)> {
    let entries = std::fs::read_dir("/proc").expect("processes");
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path))
        })
        .collect()
}

/// The keystores' password is random per world, which makes it a canary; anvil's keys are known.
fn no_secret_in_any_log(world: &World) {
    let password = std::fs::read_to_string(world.path("keys/password")).expect("a password");
    let keys = ["59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"];
    let mut said = String::new();
    read_all(&world.path("logs"), &mut said);
    read_all(&world.path("signers"), &mut said);
    assert!(said.contains("signer is ready"), "the logs were found");
    for secret in keys.into_iter().chain([password.trim()]) {
        assert!(!said.contains(secret), "a secret is in a log");
    }
}

fn read_all(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        // A socket cannot be read.
        if let Ok(content) = std::fs::read(&path) {
            into.push_str(&String::from_utf8_lossy(&content));
        }
    }
}
