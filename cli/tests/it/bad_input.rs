//! What people get wrong is refused with the field, the limit and what to do.

use std::process::Command;

use crate::world::{World, program, text};

#[test]
fn each_mistake_is_named_and_costs_nothing() {
    let world = World::start();
    let offer = world.native_offer();
    let submit = |arguments: &[&str]| {
        let base = ["request", "submit", "--as", "requester"];
        world.refused(&[&base[..], arguments].concat())
    };

    let unknown = format!("0x{}", "ab".repeat(32));
    let error = submit(&["--offer", &unknown, "--input", "x"]);
    assert!(error.contains("unknown to the indexer"), "{error}");
    let long = "x".repeat(8193);
    let error = submit(&["--offer", &offer, "--input", &long]);
    assert!(error.contains("--input: 8193 bytes, over the limit of 8192"), "{error}");
    let error = submit(&["--offer", &offer, "--input", "x", "--duration", "5"]);
    assert!(error.contains("--duration: 5 s, but the offer takes 30 to"), "{error}");
    let error = submit(&["--offer", &offer, "--input", "x", "--pay", "authorization"]);
    assert!(error.contains("--pay direct"), "{error}");

    let error = world.refused(&["agent", "show", "4711"]);
    assert!(error.contains("agent 4711 does not exist"), "{error}");
    let error = world.refused(&["agent", "register", "--uri", "ftp://x", "--as", "agent"]);
    assert!(error.contains("is not a scheme of ERC-8004"), "{error}");
    let error = world.refused(&["agent", "register", "--uri", "https://x", "--as", "nobody"]);
    assert!(error.contains("no account \"nobody\""), "{error}");

    let error = world.refused(&[
        "offer",
        "publish",
        "--agent",
        "0",
        "--token",
        "ETH",
        "--price",
        "1",
        "--operator-set",
        "99",
        "--payee",
        "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc=1",
        "--as",
        "agent",
    ]);
    assert!(error.contains("set 99 has no started epoch"), "{error}");
    let error = world.refused(&[
        "offer",
        "publish",
        "--agent",
        "0",
        "--token",
        "ETH",
        "--price",
        "0.0000000000000000001",
        "--operator-set",
        "1",
        "--payee",
        "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc=1",
        "--as",
        "agent",
    ]);
    assert!(error.contains("more decimals than the token's 18"), "{error}");

    let keystore = text(&world.file()["accounts"][4]["keystore"]);
    let wrong = world.path("wrong-password");
    std::fs::write(&wrong, "not it").expect("write");
    let password = wrong.display().to_string();
    let with_wrong = [
        "agent",
        "register",
        "--uri",
        "https://x",
        "--keystore",
        &keystore,
        "--password-file",
        &password,
    ];
    let error = world.refused(&with_wrong);
    assert!(error.contains("wrong-password"), "a readable password file is refused: {error}");
    make_private(&wrong);
    let error = world.refused(&with_wrong);
    assert!(error.contains("wrong password"), "{error}");

    let error = world.refused(&["agent", "list", "--indexer-url", "http://127.0.0.1:9"]);
    assert!(error.contains("does not answer"), "{error}");
    let error = world.refused(&[
        "agent",
        "register",
        "--uri",
        "https://x",
        "--as",
        "agent",
        "--rpc-url",
        "http://127.0.0.1:9",
    ]);
    assert!(error.contains("does not answer"), "{error}");

    let mut deployment = world.file()["deployment"].clone();
    deployment["chainId"] = 8453.into();
    let elsewhere = world.path("elsewhere.json");
    std::fs::write(&elsewhere, deployment.to_string()).expect("write");
    let elsewhere = elsewhere.display().to_string();
    let error = world.refused(&[
        "agent",
        "register",
        "--uri",
        "https://x",
        "--as",
        "agent",
        "--deployment",
        &elsewhere,
    ]);
    assert!(error.contains("reports 31337, but the contracts are on 8453"), "{error}");
}

#[test]
fn a_document_that_cannot_be_read_is_named_and_nothing_is_stored() {
    let world = World::start();
    let database = text(&world.file()["databaseUrl"]);
    let add = |name: &str| {
        let path = world.path(name).display().to_string();
        world.refused(&["corpus", "add", &path, "--database-url", &database, "--device", "cpu"])
    };
    std::fs::write(world.path("empty.md"), "").expect("write");
    let error = add("empty.md");
    assert!(error.contains("empty.md: has 0 bytes"), "{error}");
    let error = add("missing.md");
    assert!(error.contains("missing.md"), "{error}");
    std::fs::write(world.path("latin.txt"), b"caf\xe9").expect("write");
    let error = add("latin.txt");
    assert!(error.contains("not UTF-8 at byte 3"), "{error}");

    let corpora = world.run(&["corpus", "list", "--database-url", &database]);
    let documents = corpora[0]["documents"].as_array().map(Vec::len);
    assert!(matches!(documents, None | Some(0)), "{corpora}");
}

#[test]
fn an_operator_cannot_use_the_key_of_another() {
    let world = World::start();
    let market = world.market();
    let (owner, thief) = (&market["operators"][0], &market["operators"][1]);
    let file = world.file();
    let password = text(&file["passwordFile"]);
    let deployment = world.path("deployment.json").display().to_string();
    let arguments = [
        "oracle",
        "run",
        "--owner",
        &text(&thief["owner"]),
        "--database-url",
        &text(&file["databaseUrl"]),
        "--rpc-url",
        &text(&file["rpcUrl"]),
        "--indexer-url",
        &text(&file["indexerUrl"]),
        "--deployment",
        &deployment,
        "--signer-keystore",
        &text(&owner["signerKeystore"]),
        "--signer-password-file",
        &password,
        "--transmitter-keystore",
        &text(&thief["transmitterKeystore"]),
        "--transmitter-password-file",
        &password,
        "--device",
        "cpu",
    ];
    let output = world.attempt(&arguments);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    let registered = text(&owner["owner"]);
    assert!(error.to_lowercase().contains(&registered.to_lowercase()), "{error}");
}

#[test]
fn a_command_without_a_world_says_what_to_start() {
    let empty = tempfile::tempdir().expect("temporary directory");
    let output = Command::new(program())
        .args(["request", "show", &format!("0x{}", "00".repeat(32))])
        .env_remove("AUSPEX_WORLD")
        .env("AUSPEX_HOME", empty.path())
        .output()
        .expect("run auspex");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("start `auspex dev`"), "{error}");
}

fn make_private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o400)).expect("permissions");
}
