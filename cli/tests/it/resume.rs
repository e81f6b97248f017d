//! `auspex dev` stops with everything that it started, at any moment, and resumes on the same data.

use std::path::Path;
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::world::{
    World, eventually, program, running_in, send, spawn, take_turn, text, world_directory,
};

const QUESTION: &str = "What does the escrow keep in storage?";

/// What a world shows to its readers.
fn seen(world: &World, request: &str) -> [Value; 5] {
    [
        world.run(&["agent", "list"]),
        world.run(&["offer", "list"]),
        world.run(&["request", "show", request]),
        world.run(&["credit", "show", "--as", "payee-1"]),
        world.run(&["operator-set", "show", "1"]),
    ]
    .map(without_finality)
}

#[test]
fn a_world_resumes_with_everything_in_it_after_ctrl_c_and_after_a_kill() {
    let mut world = World::start();
    let first = world.submit(&world.native_offer(), QUESTION, "direct");
    assert_eq!(world.watch(&first)["status"], "settled");
    let before = seen(&world, &first);
    let offers = [world.native_offer(), world.token_offer()];

    assert!(world.stop(Signal::SIGINT).success(), "Ctrl-C is no failure");
    nothing_runs(&world.path(""));
    world.resume();
    assert_eq!(seen(&world, &first), before);
    assert_eq!([world.native_offer(), world.token_offer()], offers);
    let second = world.submit(&world.token_offer(), QUESTION, "authorization");
    assert_eq!(world.watch(&second)["status"], "settled");

    // Killed in the middle of a request, without a chance to stop anything.
    let third = world.submit(&world.native_offer(), QUESTION, "direct");
    world.stop(Signal::SIGKILL);
    nothing_runs(&world.path(""));
    world.resume();
    assert_eq!(world.watch(&third)["status"], "settled");
    let requests = world.graphql("{ requests(first: 100) { requestId } }");
    assert_eq!(requests["data"]["requests"].as_array().map(Vec::len), Some(3), "{requests}");

    a_second_world_in_the_directory_is_refused(&world);
    assert!(world.stop(Signal::SIGTERM).success());
    nothing_runs(&world.path(""));
}

fn a_second_world_in_the_directory_is_refused(world: &World) {
    for command in ["dev", "demo"] {
        let output = std::process::Command::new(program())
            .args([command, "--directory"])
            .arg(world.path(""))
            .stdin(Stdio::null())
            .output()
            .expect("run auspex");
        assert!(!output.status.success());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("--directory"), "{command}: {error}");
    }
    assert!(world.rest("v1/agents").is_some(), "the first goes on");
}

/// Ctrl-C in the middle of the set-up, as soon as each of its stages can be seen; the next start begins where it can.
#[test]
fn a_start_that_is_interrupted_leaves_nothing_running_and_can_be_repeated() {
    let _turn = take_turn();
    let directory = world_directory();
    let root = directory.path().join("world");
    for (stage, signal) in [
        ("postgres", Signal::SIGINT),
        ("chain/state.json", Signal::SIGINT),
        ("deployment.json", Signal::SIGKILL),
        ("documents/README.md", Signal::SIGTERM),
        ("logs/operator-1.log", Signal::SIGINT),
    ] {
        let mut process = spawn(&root);
        eventually(stage, || {
            assert!(process.try_wait().expect("a process").is_none(), "it ended before {stage}");
            root.join(stage).exists().then_some(())
        });
        send(process.id(), signal);
        let status = process.wait().expect("auspex dev ends");
        assert_eq!(status.success(), signal != Signal::SIGKILL, "{stage}: {status}");
        nothing_runs(&root);
        // What a stage left is no sign of the next start's.
        for stage in ["deployment.json", "documents/README.md", "logs/operator-1.log"] {
            // It may not have come so far.
            let _ = std::fs::remove_file(root.join(stage));
        }
    }
    let mut process = spawn(&root);
    announced(&mut process);
    send(process.id(), Signal::SIGINT);
    assert!(process.wait().expect("auspex dev ends").success());
    nothing_runs(&root);
}

/// Reads the announcement of a world that is ready.
fn announced(process: &mut Child) -> Value {
    let stdout = process.stdout.take().expect("piped");
    let mut documents = serde_json::Deserializer::from_reader(stdout).into_iter::<Value>();
    let document = documents.next().expect("an announcement").expect("JSON");
    assert!(text(&document["nativeOffer"]).starts_with("0x"));
    document
}

/// The watchdogs of killed processes need a moment to be gone themselves.
#[track_caller]
fn nothing_runs(root: &Path) {
    let root = root.canonicalize().expect("the world's directory");
    eventually("nothing runs any more", || {
        let running = running_in(&root);
        running.is_empty().then_some(())
    });
}

/// Rows become final while the test looks.
fn without_finality(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.remove("finality");
            for field in fields.values_mut() {
                *field = without_finality(field.take());
            }
        }
        Value::Array(elements) => {
            for element in elements {
                *element = without_finality(element.take());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}
