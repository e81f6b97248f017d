//! Answers that a model writes, in a process of its own, which is killed now and then.

use std::path::Path;
use std::time::Instant;

use auspex_inference::decoder::Message;
use auspex_oracle::model::process::ModelProcess;
use auspex_oracle::model::writing::WrittenText;
use nix::sys::signal::Signal;

use crate::world::{END_WAIT_MAX, World, eventually, program, running_in, runtime, send, text};

/// Tokens of a text. Their lines are twice as much as a pipe holds, so that a process whose first piece was read has not
/// said everything yet.
const TOKENS: usize = 2_000;

/// A small decoder with random weights, which holds a prompt with passages, and writes until it may not any more.
fn decoder() -> tempfile::TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../inference/tests/decoder/llama3");
    let directory = tempfile::tempdir().expect("a directory");
    for file in std::fs::read_dir(source).expect("the model's files") {
        let path = file.expect("a file").path();
        let name = path.file_name().expect("a name");
        std::fs::copy(&path, directory.path().join(name)).expect("copy a file");
    }
    for (name, field, value) in [
        ("config.json", "max_position_embeddings", 16_384.into()),
        ("config.json", "eos_token_id", serde_json::Value::Null),
        ("generation_config.json", "eos_token_id", serde_json::Value::Null),
    ] {
        let path = directory.path().join(name);
        let content = std::fs::read(&path).expect("read the configuration");
        let mut content: serde_json::Value = serde_json::from_slice(&content).expect("JSON");
        content[field] = value;
        std::fs::write(&path, content.to_string()).expect("write the configuration");
    }
    directory
}

#[test]
fn a_writer_that_is_killed_is_started_again_and_writes_the_same() {
    let decoder = decoder();
    let process = ModelProcess {
        name: "writing",
        program: program().into(),
        arguments: vec![
            "model".into(),
            "writer".into(),
            "--decoder-dir".into(),
            decoder.path().into(),
            "--decoder-device".into(),
        ],
        devices: vec!["cpu".into()],
        start_timeout: END_WAIT_MAX,
        silence_max: END_WAIT_MAX,
        device_retry: END_WAIT_MAX,
    };
    runtime().block_on(async {
        let writer = process.writer().await.expect("a writer");
        let question = vec![Message::user("Who may refund a request?")];
        let undisturbed = writer.write(question.clone(), TOKENS, |_| {}).await.expect("a text");
        assert!(undisturbed.is_cut, "the text is as long as it may be: {undisturbed:?}");

        let (mut shown, mut kills) = (0, 0);
        let show = |text: &str| {
            // A text that begins anew is shorter than what was shown of it.
            let begins_anew = text.len() <= shown;
            shown = text.len();
            if kills == 0 || (kills == 1 && begins_anew) {
                kills += 1;
                send(writer_in(decoder.path()), Signal::SIGKILL);
            }
        };
        let disturbed = writer.write(question.clone(), TOKENS, show).await.expect("a text");
        assert_eq!((disturbed, kills), (undisturbed.clone(), 2));

        // Side by side, and one that nobody waits for: each text is what it is alone.
        let abandoned = tokio::time::timeout(
            std::time::Duration::from_millis(1),
            writer.write(question.clone(), TOKENS, |_| {}),
        );
        let other = writer.write(vec![Message::user("Why?")], TOKENS, |_| {});
        let same = writer.write(question.clone(), TOKENS, |_| {});
        let (_, other, same) = tokio::join!(abandoned, other, same);
        assert_eq!(same.expect("a text"), undisturbed);
        let other: WrittenText = other.expect("a text");
        assert_ne!(other.trace, undisturbed.trace);
    });
    eventually("the writer's end", || running_in(decoder.path()).is_empty().then_some(()));
}

#[test]
fn three_operators_write_the_same_and_the_requester_reads_along() {
    let decoder = decoder();
    let environment = [
        ("AUSPEX_ORACLE_ANSWERER", "generative".as_ref()),
        ("AUSPEX_DECODER_DIR", decoder.path().as_os_str()),
    ];
    let world = World::start_in(&environment, &[]);
    let operators = ["operator-1", "operator-2", "operator-3"];
    // Nobody answers before somebody reads along.
    operators.iter().for_each(|operator| world.signal(operator, Signal::SIGSTOP));
    let question = "What happens when nobody delivers a result before the deadline?";
    let request_id = world.submit(&world.native_offer(), question, "direct");
    let parts = runtime().block_on(async {
        let url = text(&world.file()["indexerUrl"]);
        let url = format!("{url}v1/stream?requestId={request_id}");
        let mut stream = reqwest::get(url).await.expect("the indexer answers");
        operators.iter().for_each(|operator| world.signal(operator, Signal::SIGCONT));
        let (started, mut lines) = (Instant::now(), String::new());
        while !lines.contains("event: partial") {
            let left = END_WAIT_MAX.checked_sub(started.elapsed()).expect("a part in time");
            let chunk = tokio::time::timeout(left, stream.chunk()).await.expect("a part in time");
            let chunk = chunk.expect("a stream").expect("more of it");
            lines.push_str(&String::from_utf8_lossy(&chunk));
        }
        lines
    });
    let view = world.watch(&request_id);
    assert_eq!(view["status"], "settled", "{view}\n{parts}");
    assert_eq!(view["result"]["outcome"], "answered", "{view}");
    assert_eq!(view["answer"]["answerer"], "generative", "{view}");
    assert_eq!(view["signers"].as_array().map(Vec::len), Some(2), "{view}");
    let no_trace = format!("0x{}", "0".repeat(64));
    assert_ne!(text(&view["result"]["traceRoot"]), no_trace, "{view}");

    // All three writers die; the nodes go on with new ones.
    let old = writers_in(decoder.path());
    assert_eq!(old.len(), operators.len());
    old.iter().for_each(|writer| send(*writer, Signal::SIGKILL));
    let second = world.submit(&world.native_offer(), "Who may refund?", "direct");
    let view = world.watch(&second);
    assert_eq!(view["status"], "settled", "{view}");
    let new = eventually("new writers", || {
        let new = writers_in(decoder.path());
        (2 <= new.len()).then_some(new)
    });
    assert!(new.iter().all(|writer| !old.contains(writer)), "{old:?} {new:?}");

    // What the processes measure is the node's to tell.
    let node = text(&world.file()["nodes"][0]["url"]);
    for line in [
        "auspex_model_failures_total{model=\"writing\"} 1",
        "auspex_decoder_pass_seconds_count",
        "auspex_inference_batch_seconds_count",
    ] {
        eventually(line, || {
            let text = runtime().block_on(async {
                let reply = reqwest::get(format!("{node}metrics")).await.expect("the node answers");
                reply.text().await.expect("a text")
            });
            text.contains(line).then_some(())
        });
    }
}

fn writer_in(directory: &Path) -> u32 {
    let writers = writers_in(directory);
    assert_eq!(writers.len(), 1, "{writers:?}");
    writers[0]
}

/// The processes that write with the decoder in this directory, by their ids.
fn writers_in(directory: &Path) -> Vec<u32> {
    let id = |process: String| process.split(':').next().and_then(|id| id.parse().ok());
    let is_writer = |process: &String| process.contains(" writer ");
    running_in(directory).into_iter().filter(is_writer).filter_map(id).collect()
}
