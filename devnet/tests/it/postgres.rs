use std::path::Path;
use std::time::Duration;

use auspex_devnet::postgres::pgvector::{self, PgvectorError};
use auspex_devnet::postgres::{Durability, Postgres, PostgresConfig, TestDatabase};
use auspex_devnet::process::{Restart, Status};
use auspex_devnet::provision::{Progress, ToolsConfig};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::wait::{again, read_report, report, report_file, runs, until};

#[tokio::test]
async fn data_survive_a_stop_and_a_crash() {
    let folder = folder();
    let server = start(config(folder.path())).await;
    server.ensure_database("auspex").await.expect("create");
    server.ensure_database("auspex").await.expect("a second time changes nothing");
    let mut connection = connect(&server).await;
    execute(&mut connection, "create table kept (n int primary key)").await;
    execute(&mut connection, "insert into kept values (1)").await;
    connection.close().await.expect("close");
    let port = server.port();
    server.stop().await.expect("stop");
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect_err("nobody listens");

    let server = start(config(folder.path())).await;
    execute(&mut connect(&server).await, "insert into kept values (2)").await;
    let pid = server.pid().expect("runs");
    assert!(server.kill9());
    until("the server is gone", || !runs(pid));
    drop(server);

    let server = start(config(folder.path())).await;
    let mut connection = connect(&server).await;
    let kept: Vec<i32> = sqlx::query_scalar("select n from kept order by n")
        .fetch_all(&mut connection)
        .await
        .expect("select");
    assert_eq!(kept, [1, 2]);
    connection.close().await.expect("close");
    server.stop().await.expect("stop");
}

/// Two roles, like [`crate::process`]: the inner one runs a server, is killed, and has a successor at once.
#[test]
fn a_server_whose_parent_was_killed_has_a_successor_at_once() {
    const NAME: &str = "postgres::a_server_whose_parent_was_killed_has_a_successor_at_once";
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let settings = |folder: &Path| PostgresConfig {
        durability: Durability::Safe,
        ..config(&folder.join("data"))
    };
    if let Some(file) = report_file() {
        let server = runtime.block_on(async {
            let server = start(settings(file.parent().expect("folder"))).await;
            server.ensure_database("auspex").await.expect("create");
            execute(&mut connect(&server).await, "create table kept (n int)").await;
            server
        });
        report(&file, &server.pid().expect("runs").to_string());
        loop {
            std::thread::park();
        }
    }
    let folder = folder();
    let file = folder.path().join("report");
    let mut parent = again(NAME, &file);
    let pid = read_report(&file).parse().expect("a number");
    parent.kill().expect("kill parent");
    parent.wait().expect("reap parent");
    runtime.block_on(async {
        let server = start(settings(folder.path())).await;
        assert!(!runs(pid), "both ran at once");
        execute(&mut connect(&server).await, "insert into kept values (1)").await;
        server.stop().await.expect("stop");
    });
}

#[tokio::test]
async fn a_process_number_that_a_stranger_has_now_does_not_prevent_the_start() {
    let folder = folder();
    start(config(folder.path())).await.stop().await.expect("stop");
    let data = folder.path().canonicalize().expect("folder").join("cluster");
    let stale = format!("{}\n{}\n0\n1\n\n\n\n", std::process::id(), data.display());
    std::fs::write(data.join("postmaster.pid"), stale).expect("write");
    let server = start(config(folder.path())).await;
    server.stop().await.expect("stop");
}

#[tokio::test]
async fn committed_means_on_disk_when_safe_and_not_when_throwaway() {
    for (durability, fsync) in [(Durability::Safe, "on"), (Durability::Throwaway, "off")] {
        let folder = folder();
        let server = start(PostgresConfig { durability, ..config(folder.path()) }).await;
        let mut connection = PgConnection::connect(&server.url("postgres")).await.expect("connect");
        for (setting, value) in [
            ("fsync", fsync),
            ("synchronous_commit", "on"),
            ("full_page_writes", fsync),
            ("listen_addresses", "127.0.0.1"),
        ] {
            let found: String = sqlx::query_scalar("select current_setting($1)")
                .bind(setting)
                .fetch_one(&mut connection)
                .await
                .expect("setting");
            assert_eq!(found, value, "{setting} when {durability:?}");
        }
        connection.close().await.expect("close");
        server.stop().await.expect("stop");
    }
}

#[tokio::test]
async fn pgvector_and_unicode_work() {
    let folder = folder();
    let server = start(config(folder.path())).await;
    let mut connection = PgConnection::connect(&server.url("postgres")).await.expect("connect");
    execute(&mut connection, "create extension vector").await;
    let distance: f64 = sqlx::query_scalar("select '[1,2]'::vector <-> '[4,6]'::vector")
        .fetch_one(&mut connection)
        .await
        .expect("distance");
    assert!((distance - 5.0).abs() < 1e-9);
    let lower: String =
        sqlx::query_scalar("select lower('ÄÉΣ')").fetch_one(&mut connection).await.expect("lower");
    assert_eq!(lower, "äéσ");
}

#[tokio::test]
async fn one_data_directory_serves_one_server() {
    let folder = folder();
    let server = start(config(folder.path())).await;
    let error = Postgres::start(&bin().await, config(folder.path())).await.expect_err("in use");
    assert!(error.to_string().contains("is in use by another Auspex process"), "{error}");
    server.stop().await.expect("stop");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = taken.local_addr().expect("address").port();
    let folder = folder();
    let config = PostgresConfig { port: Some(port), ..config(folder.path()) };
    let error = Postgres::start(&bin().await, config).await.expect_err("taken");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn a_crashed_server_comes_back_on_its_port_if_that_is_wanted() {
    let folder = folder();
    let restart = Restart::Always { first: Duration::from_millis(10), max: Duration::from_secs(1) };
    let server = start(PostgresConfig { restart, ..config(folder.path()) }).await;
    let mut status = server.status();
    server.kill9();
    let again = |status: &Status| matches!(status, Status::Running { restarts: 1.., .. });
    status.wait_for(again).await.expect("supervised");
    let url = server.url("postgres");
    let answered = tokio::time::timeout(Duration::from_secs(20), async {
        while PgConnection::connect(&url).await.is_err() {}
    });
    answered.await.expect("the server answers again");
    server.stop().await.expect("stop");
}

/// As root, the folder belongs to root alone, and the server's user gets another one behind a link.
#[tokio::test]
async fn a_folder_that_is_closed_to_the_servers_user_becomes_a_link() {
    let folder = folder();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(folder.path(), closed).expect("close folder");
    let data_dir = folder.path().join("data");
    let server = start(config(&data_dir)).await;
    PgConnection::connect(&server.url("postgres")).await.expect("connect");
    server.stop().await.expect("stop");
    let is_link = std::fs::symlink_metadata(&data_dir).expect("data directory").is_symlink();
    assert_eq!(is_link, nix::unistd::geteuid().is_root());
    // The link is followed again.
    start(config(&data_dir)).await.stop().await.expect("stop");
    std::fs::remove_dir_all(data_dir.canonicalize().expect("data directory")).expect("remove");
}

#[tokio::test]
async fn a_data_directory_with_a_long_name_works() {
    let folder = folder();
    let server = start(config(&folder.path().join("long".repeat(40)))).await;
    PgConnection::connect(&server.url("postgres")).await.expect("connect");
    server.stop().await.expect("stop");
}

#[tokio::test]
async fn a_database_name_is_checked() {
    let folder = folder();
    let server = start(config(folder.path())).await;
    let error = server.ensure_database("a; drop table b").await.expect_err("not a name");
    assert!(error.to_string().contains("a-z, 0-9 and _"), "{error}");
}

/// The server's list of extensions is shadowed by one that lacks pgvector, or has an old one.
#[tokio::test]
async fn a_database_without_pgvector_is_refused() {
    let database = TestDatabase::create().await.expect("database");
    let mut connection = PgConnection::connect(database.url()).await.expect("connect");
    pgvector::check(&mut connection).await.expect("the embedded server has it");

    execute(&mut connection, "create schema shadow").await;
    execute(
        &mut connection,
        "create table shadow.pg_available_extensions (name name, default_version text, installed_version text)",
    )
    .await;
    let options: PgConnectOptions = database.url().parse().expect("URL");
    let options = options.options([("search_path", "shadow,pg_catalog")]);
    let mut shadowed = PgConnection::connect_with(&options).await.expect("connect");
    let error = pgvector::check(&mut shadowed).await.expect_err("missing");
    assert!(matches!(error, PgvectorError::Missing), "{error:?}");
    assert!(error.to_string().starts_with("a database without pgvector"), "{error}");

    execute(
        &mut connection,
        "insert into shadow.pg_available_extensions values ('vector', '0.8.0', '0.7.4')",
    )
    .await;
    let error = pgvector::check(&mut shadowed).await.expect_err("too old");
    assert!(matches!(&error, PgvectorError::TooOld { found } if found == "0.7.4"), "{error:?}");
}

/// Open to all, because as root the server runs as somebody else.
fn folder() -> TempDir {
    tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .expect("folder")
}

fn config(data_dir: &Path) -> PostgresConfig {
    PostgresConfig {
        data_dir: data_dir.to_path_buf(),
        port: None,
        durability: Durability::Throwaway,
        restart: Restart::Never,
    }
}

async fn start(config: PostgresConfig) -> Postgres {
    Postgres::start(&bin().await, config).await.expect("server")
}

async fn bin() -> std::path::PathBuf {
    let config = ToolsConfig::from_environment().expect("tools");
    config.postgres_bin(Progress::Lines).await.expect("PostgreSQL")
}

async fn connect(server: &Postgres) -> PgConnection {
    PgConnection::connect(&server.url("auspex")).await.expect("connect")
}

async fn execute(connection: &mut PgConnection, statement: &'static str) {
    sqlx::query(statement).execute(connection).await.expect(statement);
}
