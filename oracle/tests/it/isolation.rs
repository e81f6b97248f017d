//! The model process dies in every way that it can, and the questions are answered all the same.

use std::path::Path;

use auspex_oracle::model::process::{ModelProcess, start};
use auspex_oracle::model::wire::{Hello, Reply, written};
use tempfile::TempDir;

use alloy::primitives::B256;

/// A model of one shell script. It greets, and gives the same vector to every order. A file named after its device makes
/// it end: `GPU.start` before it greets, `GPU.order` at each order, `GPU.once` at one order.
const SCRIPT: &str = r#"
folder=$1 hello=$2 reply=$3 device=$4
echo "$device" >> "$folder/starts"
[ -e "$folder/$device.start" ] && exit 1
printf '%s\n' "$hello"
while read -r _; do
    [ -e "$folder/$device.order" ] && exit 1
    if [ -e "$folder/$device.once" ]; then rm "$folder/$device.once"; kill -9 $$; fi
    printf '%s\n' "$reply"
done
"#;

fn process(folder: &Path, model_hash: u8) -> ModelProcess {
    let hello = Hello {
        model_hash: B256::repeat_byte(model_hash),
        tokens_max: 10,
        device: "a device".into(),
        profile: "a profile".into(),
    };
    let reply = Reply::Vectors { vectors: vec![written(&[1.0, 0.5])] };
    ModelProcess {
        program: "/bin/sh".into(),
        arguments: vec![
            "-c".into(),
            SCRIPT.into(),
            "model".into(),
            folder.into(),
            serde_json::to_string(&hello).expect("JSON").into(),
            serde_json::to_string(&reply).expect("JSON").into(),
        ],
        devices: vec!["gpu".into(), "cpu".into()],
    }
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
    let embedder = start(process(folder.path(), 1)).await.expect("a model");
    for round in 1..=3usize {
        mark(folder.path(), "gpu.once");
        assert_eq!(embedder.vectors(&["one"]).await.expect("vectors"), [[1.0, 0.5]]);
        assert_eq!(starts(folder.path()), vec!["gpu"; round + 1]);
    }
}

#[tokio::test]
async fn a_lost_gpu_gives_way_to_the_cpu() {
    let folder = TempDir::new().expect("a folder");
    let embedder = start(process(folder.path(), 1)).await.expect("a model");
    mark(folder.path(), "gpu.order");
    assert_eq!(embedder.vectors(&["one"]).await.expect("vectors"), [[1.0, 0.5]]);
    assert_eq!(starts(folder.path()), ["gpu", "gpu", "gpu", "cpu"]);

    let folder = TempDir::new().expect("a folder");
    mark(folder.path(), "gpu.start");
    start(process(folder.path(), 1)).await.expect("a model on the CPU");
    assert_eq!(starts(folder.path()), ["gpu", "gpu", "gpu", "cpu"]);
}

#[tokio::test]
async fn a_model_that_fails_everywhere_is_left_alone_for_a_while() {
    let folder = TempDir::new().expect("a folder");
    let embedder = start(process(folder.path(), 1)).await.expect("a model");
    mark(folder.path(), "gpu.order");
    mark(folder.path(), "cpu.order");
    for _ in 0..2 {
        embedder.vectors(&["one"]).await.expect_err("broken");
    }
    let before = starts(folder.path()).len();
    let error = embedder.vectors(&["one"]).await.expect_err("refused");
    assert!(format!("{error:#}").contains("keeps failing"), "{error:#}");
    assert_eq!(starts(folder.path()).len(), before, "no process is started for it");
    mark(folder.path(), "gpu.start");
    mark(folder.path(), "cpu.start");
    let error = start(process(folder.path(), 1)).await.expect_err("nothing starts");
    assert!(error.to_string().contains("any device"), "{error}");
}
