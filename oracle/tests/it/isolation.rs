//! The model process dies in every way that it can, and the questions are answered all the same.

use std::path::Path;
use std::time::Duration;

use auspex_inference::decoder::Message;
use auspex_oracle::corpus::Embedder;
use auspex_oracle::model::process::ModelProcess;
use auspex_oracle::model::wire::{Hello, Line, News, written};
use auspex_oracle::model::writing::{WritingError, WritingModel, WrittenText};
use tempfile::TempDir;

use alloy::primitives::B256;

/// A model of one shell script. It greets, and says the same lines to every order; an `@` in them stands for the order's id.
/// A file named after its device makes it end: `GPU.start` before it greets, `GPU.order` at each order, `GPU.once` at one
/// order, and `GPU.after` once behind its first line. An order with the word poison ends it always, and one with the word
/// patience is never answered.
const SCRIPT: &str = r#"
folder=$1 hello=$2 lines=$3 device=$4
echo "$device" >> "$folder/starts"
[ -e "$folder/$device.start" ] && exit 1
printf '%s\n' "$hello"
while read -r call; do
    id=${call#*'"id":'} id=${id%%[,\}]*}
    case "$call" in
    *cancel*) echo "$id" >> "$folder/cancelled"; continue ;;
    *patience*) echo "$id" >> "$folder/patient"; continue ;;
    *poison*) exit 1 ;;
    esac
    [ -e "$folder/$device.order" ] && exit 1
    if [ -e "$folder/$device.once" ]; then rm "$folder/$device.once"; kill -9 $$; fi
    said=$(printf '%s\n' "$lines" | sed "s/\"@\"/$id/")
    if [ -e "$folder/$device.after" ]; then
        rm "$folder/$device.after"
        printf '%s\n' "$said" | head -n 1
        exit 1
    fi
    printf '%s\n' "$said"
done
"#;

fn process(folder: &Path, model_hash: u8, news: &[News]) -> ModelProcess {
    let hello = Hello {
        model_hash: B256::repeat_byte(model_hash),
        tokens_max: 10,
        device: "a device".into(),
        profile: "a profile".into(),
    };
    let line = |news: &News| {
        let line = serde_json::to_value(Line::News { id: 0, news: news.clone() });
        let mut line = line.expect("JSON");
        line["id"] = "@".into();
        line.to_string()
    };
    let lines: Vec<String> = news.iter().map(line).collect();
    ModelProcess {
        name: "test",
        program: "/bin/sh".into(),
        arguments: vec![
            "-c".into(),
            SCRIPT.into(),
            "model".into(),
            folder.into(),
            serde_json::to_string(&hello).expect("JSON").into(),
            lines.join("\n").into(),
        ],
        devices: vec!["gpu".into(), "cpu".into()],
        start_timeout: Duration::from_secs(60),
        silence_max: Duration::from_secs(60),
        device_retry: Duration::from_millis(50),
    }
}

async fn start_embedder(folder: &Path) -> anyhow::Result<Embedder> {
    let vectors = News::Vectors { vectors: vec![written(&[1.0, 0.5])] };
    process(folder, 1, &[vectors]).embedder().await
}

async fn start_writer(folder: &Path, news: &[News]) -> WritingModel {
    process(folder, 1, news).writer().await.expect("a model")
}

/// A text in two pieces.
fn anyone() -> [News; 4] {
    [
        News::Text { piece: "An".into() },
        News::Read { tokens: 1 },
        News::Text { piece: "yone".into() },
        News::Written { cut: false, trace: B256::repeat_byte(9) },
    ]
}

fn starts(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("starts")).expect("the starts");
    text.lines().map(str::to_owned).collect()
}

fn mark(folder: &Path, name: &str) {
    std::fs::write(folder.join(name), "").expect("a file");
}

#[tokio::test]
async fn a_killed_model_is_started_again_and_the_question_is_answered() {
    let folder = TempDir::new().expect("a folder");
    let embedder = start_embedder(folder.path()).await.expect("a model");
    for round in 1..=3usize {
        mark(folder.path(), "gpu.once");
        assert_eq!(embedder.vectors(&["one"]).await.expect("vectors"), [[1.0, 0.5]]);
        assert_eq!(starts(folder.path()), vec!["gpu"; round + 1]);
    }
}

#[tokio::test]
async fn a_lost_gpu_gives_way_to_the_cpu() {
    let folder = TempDir::new().expect("a folder");
    let embedder = start_embedder(folder.path()).await.expect("a model");
    mark(folder.path(), "gpu.order");
    assert_eq!(embedder.vectors(&["one"]).await.expect("vectors"), [[1.0, 0.5]]);
    assert_eq!(starts(folder.path()), ["gpu", "gpu", "gpu", "cpu"]);

    let folder = TempDir::new().expect("a folder");
    mark(folder.path(), "gpu.start");
    start_embedder(folder.path()).await.expect("a model on the CPU");
    assert_eq!(starts(folder.path()), ["gpu", "gpu", "gpu", "cpu"]);
}

#[tokio::test]
async fn a_model_that_fails_everywhere_is_left_alone_for_a_while() {
    let folder = TempDir::new().expect("a folder");
    let embedder = start_embedder(folder.path()).await.expect("a model");
    mark(folder.path(), "gpu.order");
    mark(folder.path(), "cpu.order");
    // One question after the other cannot be done anywhere: three times is no accident, on either device.
    for _ in 0..5 {
        let error = embedder.vectors(&["one"]).await.expect_err("broken");
        assert!(format!("{error:#}").contains("ended"), "{error:#}");
    }
    let error = embedder.vectors(&["one"]).await.expect_err("refused");
    assert!(format!("{error:#}").contains("keeps failing"), "{error:#}");
    let before = starts(folder.path()).len();
    let error = embedder.vectors(&["one"]).await.expect_err("refused");
    assert!(format!("{error:#}").contains("keeps failing"), "{error:#}");
    assert_eq!(starts(folder.path()).len(), before, "no process is started for it");
    mark(folder.path(), "gpu.start");
    mark(folder.path(), "cpu.start");
    let error = start_embedder(folder.path()).await.expect_err("nothing starts");
    assert!(error.to_string().contains("any device"), "{error}");
}

#[tokio::test]
async fn the_first_device_is_taken_again_when_a_process_on_it_is_well() {
    let folder = TempDir::new().expect("a folder");
    mark(folder.path(), "gpu.start");
    let embedder = start_embedder(folder.path()).await.expect("a model on the CPU");
    assert_eq!(starts(folder.path()), ["gpu", "gpu", "gpu", "cpu"]);

    // As long as it is not well, the process on the CPU answers.
    ask_until(&embedder, || starts(folder.path()).len() == 6).await;
    assert_eq!(starts(folder.path())[4..], ["gpu", "gpu"]);
    mark(folder.path(), "gpu.once");
    std::fs::remove_file(folder.path().join("gpu.start")).expect("well again");
    ask_until(&embedder, || !folder.path().join("gpu.once").exists()).await;
    let starts = starts(folder.path());
    assert!(starts[4..].iter().all(|device| device == "gpu"), "{starts:?}");
}

/// Asks, and is answered, until something has happened.
async fn ask_until(embedder: &Embedder, has_happened: impl Fn() -> bool) {
    let asking = async {
        while !has_happened() {
            assert_eq!(embedder.vectors(&["one"]).await.expect("vectors"), [[1.0, 0.5]]);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking).await.expect("in time");
}

#[tokio::test]
async fn what_ends_every_process_takes_no_other_question_with_it() {
    for devices in [vec!["cpu".to_owned()], vec!["gpu".to_owned(), "cpu".to_owned()]] {
        let folder = TempDir::new().expect("a folder");
        let vectors = News::Vectors { vectors: vec![written(&[1.0, 0.5])] };
        let process = ModelProcess { devices, ..process(folder.path(), 1, &[vectors]) };
        let embedder = process.embedder().await.expect("a model");
        for round in 0..4 {
            let (one, poison, two) = tokio::join!(
                embedder.vectors(&["one"]),
                embedder.vectors(&["poison"]),
                embedder.vectors(&["two"]),
            );
            assert_eq!(one.expect("vectors"), [[1.0, 0.5]], "round {round}");
            assert_eq!(two.expect("vectors"), [[1.0, 0.5]], "round {round}");
            let error = poison.expect_err("given up");
            assert!(format!("{error:#}").contains("ended"), "{error:#}");
        }
    }
}

#[tokio::test]
async fn a_text_whose_writer_dies_begins_anew() {
    let folder = TempDir::new().expect("a folder");
    let writer = start_writer(folder.path(), &anyone()).await;
    mark(folder.path(), "gpu.after");
    let mut shown = Vec::new();
    let show = |text: &str| shown.push(text.to_owned());
    let text = writer.write(vec![Message::user("who?")], 9, show).await.expect("a text");
    let trace = B256::repeat_byte(9);
    assert_eq!(text, WrittenText { text: "Anyone".into(), is_cut: false, trace });
    assert_eq!(shown, ["An", "An", "Anyone"]);
    assert_eq!(starts(folder.path()), ["gpu", "gpu"]);
}

#[tokio::test]
async fn a_refused_conversation_is_not_asked_again() {
    let folder = TempDir::new().expect("a folder");
    let news = [News::Refused { reason: "too long".into() }];
    let writer = start_writer(folder.path(), &news).await;
    let error = writer.write(vec![Message::user("who?")], 9, |_| {}).await.expect_err("refused");
    assert!(matches!(&error, WritingError::Refused(reason) if reason == "too long"), "{error}");
    assert_eq!(starts(folder.path()), ["gpu"]);
}

#[tokio::test]
async fn an_order_that_nobody_waits_for_is_withdrawn_and_others_go_on() {
    let folder = TempDir::new().expect("a folder");
    let writer = start_writer(folder.path(), &anyone()).await;
    let waiting = tokio::spawn({
        let writer = writer.clone();
        async move { writer.write(vec![Message::user("patience")], 9, |_| {}).await }
    });
    let patient = content(&folder.path().join("patient")).await;
    let text = writer.write(vec![Message::user("who?")], 9, |_| {}).await.expect("a text");
    assert_eq!(text.text, "Anyone");
    waiting.abort();
    assert_eq!(content(&folder.path().join("cancelled")).await, patient);
}

/// What stands in a file, once something does.
async fn content(path: &Path) -> String {
    let reading = async {
        loop {
            match std::fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reading).await.expect("a line")
}
