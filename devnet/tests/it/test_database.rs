use auspex_devnet::migrations::MIGRATOR;
use auspex_devnet::postgres::TestDatabase;

use crate::wait::{again, read_report, report, report_file, runs, until};

#[tokio::test]
async fn every_test_has_a_migrated_database_of_its_own() {
    let (first, second) = tokio::join!(TestDatabase::create(), TestDatabase::create());
    let (first, second) = (first.expect("first"), second.expect("second"));
    assert_ne!(first.url(), second.url());
    let applied: i64 = sqlx::query_scalar("select count(*) from _sqlx_migrations where success")
        .fetch_one(&first.pool())
        .await
        .expect("migrations");
    assert_eq!(usize::try_from(applied).expect("a count"), MIGRATOR.iter().count());

    sqlx::query("create table mine (n int)").execute(&first.pool()).await.expect("create");
    let elsewhere: Option<String> = sqlx::query_scalar("select to_regclass('mine')::text")
        .fetch_one(&second.pool())
        .await
        .expect("look up");
    assert_eq!(elsewhere, None);
}

#[tokio::test]
async fn a_dropped_database_is_gone() {
    let kept = TestDatabase::create().await.expect("kept");
    let dropped = TestDatabase::create().await.expect("dropped");
    let name = dropped.name().to_owned();
    drop(dropped);
    let gone = tokio::time::timeout(crate::wait::DEADLINE, async {
        loop {
            let exists: bool =
                sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
                    .bind(&name)
                    .fetch_one(&kept.pool())
                    .await
                    .expect("look up");
            if !exists {
                break;
            }
        }
    });
    gone.await.expect("dropped in time");
}

/// Two roles, like [`crate::process`]: the inner one creates a database and panics while it holds it.
#[test]
fn the_server_and_its_files_go_with_a_process_that_ends() {
    const NAME: &str = "test_database::the_server_and_its_files_go_with_a_process_that_ends";
    if let Some(file) = report_file() {
        let _database = create_and_report(&file);
        panic!("on purpose: the test process ends by a panic");
    }
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("report");
    let status = again(NAME, &file).wait().expect("child ends");
    assert!(!status.success());
    assert_nothing_left(&read_report(&file));
}

/// The inner one creates a database and is killed.
#[test]
fn the_server_and_its_files_go_with_a_process_that_is_killed() {
    const NAME: &str = "test_database::the_server_and_its_files_go_with_a_process_that_is_killed";
    if let Some(file) = report_file() {
        let _database = create_and_report(&file);
        loop {
            std::thread::park();
        }
    }
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("report");
    let mut child = again(NAME, &file);
    let text = read_report(&file);
    child.kill().expect("kill");
    child.wait().expect("reap");
    assert_nothing_left(&text);
}

/// Reports the server's process and its data directory.
fn create_and_report(file: &std::path::Path) -> TestDatabase {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let database = TestDatabase::create().await.expect("database");
        let data: String = sqlx::query_scalar("select current_setting('data_directory')")
            .fetch_one(&database.pool())
            .await
            .expect("data directory");
        let lines = std::fs::read_to_string(format!("{data}/postmaster.pid")).expect("pid file");
        let pid = lines.lines().next().expect("a line");
        report(file, &format!("{pid} {data}"));
        database
    })
}

fn assert_nothing_left(text: &str) {
    let (pid, data) = text.split_once(' ').expect("two words");
    let pid = pid.parse().expect("a number");
    let folder = std::path::Path::new(data).parent().expect("a parent");
    until("the server is gone", || !runs(pid));
    until("its files are gone", || !folder.exists());
}
