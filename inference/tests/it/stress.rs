//! A thousand jobs of every kind at once: each ends as it should, and nothing stays behind.

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use auspex_inference::{
    DeviceChoice, EncodeError, Engine, EngineError,
    limits::{JOB_TEXTS_MAX, TEXT_BYTES_MAX},
};

use crate::model_dir::{cpu, model_dir};

/// Jobs of one wave; two waves make the thousand.
const JOBS: usize = 500;

/// How much more memory the process may hold after the second wave than after the first. The
/// allocator keeps some of what it got, and which threads allocate differs from wave to wave.
const GROWTH_KIB_MAX: u64 = 48 * 1024;

/// Set in the process that has the test for itself, so that its memory is only the engine's.
const ALONE: &str = "AUSPEX_TEST_ALONE";

#[test]
fn a_thousand_mixed_jobs_all_end_and_leave_nothing() {
    if std::env::var_os(ALONE).is_some() {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2).enable_all().build().unwrap().block_on(two_waves());
        return;
    }
    let test = "stress::a_thousand_mixed_jobs_all_end_and_leave_nothing";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

async fn two_waves() {
    let engine = Engine::start(&model_dir(), DeviceChoice::Cpu).unwrap();
    let first = wave(&engine).await;
    let second = wave(&engine).await;
    eprintln!("memory after the first wave {first} KiB, after the second {second} KiB");
    assert!(second < first + GROWTH_KIB_MAX, "{first} KiB, then {second} KiB");
}

/// Runs [`JOBS`] jobs and returns the process's memory in KiB once the queue is empty.
async fn wave(engine: &Engine) -> u64 {
    let full = Arc::new("fill the queue ".repeat(100));
    // Four jobs of the most texts and tokens fill the queue for as long as they are there.
    let fillers: Vec<_> = (0..4)
        .map(|_| {
            let (engine, full) = (engine.clone(), Arc::clone(&full));
            tokio::spawn(async move { engine.embed(vec![full.to_string(); JOB_TEXTS_MAX]).await })
        })
        .collect();
    let jobs: Vec<_> = (0..JOBS).map(|job| tokio::spawn(run(engine.clone(), job))).collect();
    // Half of the jobs have met the full queue by now or will; then there is room again.
    tokio::task::yield_now().await;
    for filler in &fillers {
        filler.abort();
    }
    let mut ended = 0;
    for job in jobs {
        // A job that was lost would never end, a job that ended wrongly has panicked.
        tokio::time::timeout(Duration::from_secs(120), job).await.unwrap().unwrap();
        ended += 1;
    }
    assert_eq!(ended, JOBS);
    let emptied = async {
        while engine.queued_tokens() != 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), emptied).await.unwrap();
    resident_kib()
}

/// One job of the kind that its number says.
async fn run(engine: Engine, job: usize) {
    let text = format!("job {job} asks whether the escrow refunds");
    match job % 8 {
        0 => {
            let error = engine.embed(vec!["a".repeat(TEXT_BYTES_MAX + 1)]).await.unwrap_err();
            assert!(matches!(error, EngineError::Encode(EncodeError::TextTooLong { .. })));
        }
        1 => {
            let error = engine.embed(vec![text; JOB_TEXTS_MAX + 1]).await.unwrap_err();
            assert!(matches!(error, EngineError::TooManyTexts { .. }), "{error}");
        }
        3 => {
            // Has more or less time than it needs.
            let deadline = Instant::now() + Duration::from_micros(200 * job as u64);
            match engine.embed_until(vec![text.clone()], deadline).await {
                Ok(vectors) => assert_eq!(vectors, cpu().embed(&[&text]).unwrap()),
                Err(error) => assert!(matches!(error, EngineError::Late { .. }), "{error}"),
            }
        }
        2 => {
            // Leaves before, while or after its texts are in work.
            let patience = Duration::from_micros(50 * job as u64);
            let _ = tokio::time::timeout(patience, engine.embed(vec![text; 1 + job % 5])).await;
        }
        4 => match engine.try_embed(vec![text.clone()]).await {
            Ok(vectors) => assert_eq!(vectors, cpu().embed(&[&text]).unwrap()),
            Err(error) => assert!(matches!(error, EngineError::Overloaded), "{error}"),
        },
        _ => {
            let vectors = engine.embed(vec![text.clone(); 1 + job % 3]).await.unwrap();
            let expected = cpu().embed(&[&text]).unwrap().remove(0);
            assert_eq!(vectors.len(), 1 + job % 3);
            assert!(vectors.iter().all(|vector| *vector == expected));
        }
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
