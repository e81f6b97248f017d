//! The engine under load, with callers that leave, and at its limits.

use std::time::{Duration, Instant};

use auspex_inference::{
    DeviceChoice, EncodeError, Engine, EngineError, StartError,
    limits::{JOB_TEXTS_MAX, QUEUE_TOKENS_MAX, TEXT_BYTES_MAX},
};

use crate::model_dir::{cpu, model_dir};

fn start() -> Engine {
    Engine::start(&model_dir(), DeviceChoice::Cpu).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_jobs_get_the_encoders_vectors() {
    let engine = start();
    assert_eq!(engine.model_hash(), cpu().model_hash());
    assert_eq!(engine.dimensions(), cpu().dimensions());
    let jobs = (0..40).map(|job| {
        let engine = engine.clone();
        let texts: Vec<String> = (0..job % 7)
            .map(|text| format!("job {job} asks {}", "again ".repeat(text * job)))
            .collect();
        tokio::spawn(async move { (engine.embed(texts.clone()).await.unwrap(), texts) })
    });
    for job in jobs.collect::<Vec<_>>() {
        let (vectors, texts) = job.await.unwrap();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(vectors, cpu().embed(&texts).unwrap());
    }
    assert_eq!(engine.queued_tokens(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_leave_free_the_queue() {
    let engine = start();
    let texts = vec!["a question that nobody waits for ".repeat(40); JOB_TEXTS_MAX];
    for _ in 0..3 {
        let abandoned = tokio::time::timeout(Duration::ZERO, engine.embed(texts.clone())).await;
        assert!(abandoned.is_err());
    }
    let left = tokio::spawn({
        let engine = engine.clone();
        async move { engine.embed(texts).await }
    });
    while engine.queued_tokens() == 0 {
        tokio::task::yield_now().await;
    }
    left.abort();
    let vectors = engine.embed(vec!["still here".to_owned()]).await.unwrap();
    assert_eq!(vectors, cpu().embed(&["still here"]).unwrap());
    let emptied = async {
        while engine.queued_tokens() != 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), emptied).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_those_who_do_not_wait() {
    let engine = start();
    // Four jobs of the most texts and tokens fill the queue; the model takes seconds for each, and
    // none ends before the others because they take turns. The fifth waits for room.
    let texts = vec!["fill the queue ".repeat(100); JOB_TEXTS_MAX];
    let jobs: Vec<_> = (0..5)
        .map(|_| {
            let (engine, texts) = (engine.clone(), texts.clone());
            tokio::spawn(async move { engine.embed(texts).await })
        })
        .collect();
    let filled = async {
        while engine.queued_tokens() < QUEUE_TOKENS_MAX {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), filled).await.unwrap();
    let error = engine.try_embed(vec!["no room".to_owned()]).await.unwrap_err();
    assert!(matches!(error, EngineError::Overloaded), "{error}");

    for job in &jobs {
        job.abort();
    }
    let vectors = engine.embed(vec!["room again".to_owned()]).await.unwrap();
    assert_eq!(vectors, cpu().embed(&["room again"]).unwrap());
    let vectors = engine.try_embed(vec!["and here".to_owned()]).await.unwrap();
    assert_eq!(vectors, cpu().embed(&["and here"]).unwrap());
}

#[tokio::test]
async fn a_deadline_refuses_at_once_what_cannot_be_done_by_then() {
    let engine = start();
    let question = || vec!["is there time?".to_owned()];
    let late = engine.embed_until(question(), Instant::now()).await.unwrap_err();
    assert!(matches!(late, EngineError::Late { .. }), "{late}");
    let time = Duration::from_secs(60);
    let vectors = engine.embed_until(question(), Instant::now() + time).await.unwrap();
    assert_eq!(vectors, cpu().embed(&["is there time?"]).unwrap());
    // The pace of the batch before says that so many tokens take longer than this.
    let many = vec!["a long text ".repeat(200); JOB_TEXTS_MAX];
    let soon = Instant::now() + Duration::from_millis(400);
    let late = engine.embed_until(many, soon).await.unwrap_err();
    assert!(matches!(late, EngineError::Late { .. }), "{late}");
    assert_eq!(engine.queued_tokens(), 0, "it was queued");
}

#[tokio::test]
async fn limits_are_named() {
    let engine = start();
    let error = engine.embed(vec![String::new(); JOB_TEXTS_MAX + 1]).await.unwrap_err();
    assert!(error.to_string().contains("257 texts in one job, the limit is 256"), "{error}");
    let error = engine.embed(vec!["a".repeat(TEXT_BYTES_MAX + 1)]).await.unwrap_err();
    assert!(matches!(error, EngineError::Encode(EncodeError::TextTooLong { index: 0, .. })));
    assert!(engine.embed(Vec::new()).await.unwrap().is_empty());
    assert_eq!(engine.queued_tokens(), 0);
}

#[test]
fn a_bad_directory_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let error = Engine::start(dir.path(), DeviceChoice::Cpu).unwrap_err();
    assert!(matches!(error, StartError::Load(_)), "{error}");
}
