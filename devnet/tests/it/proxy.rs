//! The proxy's faults, between real sockets and before a real PostgreSQL.

use std::net::SocketAddr;
use std::time::Duration;

use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::proxy::{Fault, FaultProxy};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// Sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

async fn exchange(stream: &mut TcpStream) -> std::io::Result<usize> {
    stream.write_all(b"hello").await?;
    let mut reply = [0; 5];
    stream.read_exact(&mut reply).await
}

#[tokio::test]
async fn connections_are_delayed_swallowed_and_cut_and_heal() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut stream).await.unwrap();

    proxy.set(Fault::Delay(Duration::from_millis(50)));
    let started = Instant::now();
    exchange(&mut stream).await.unwrap();
    assert!(Duration::from_millis(100) <= started.elapsed(), "once in each direction");

    proxy.set(Fault::HalfOpen);
    assert!(timeout(Duration::from_millis(100), exchange(&mut stream)).await.is_err());
    // A stream with a hole in it does not come back to life.
    proxy.set(Fault::None);
    assert!(exchange(&mut stream).await.is_err());

    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut stream).await.unwrap();
    proxy.set(Fault::Cut);
    let mut byte = [0];
    assert!(!matches!(stream.read(&mut byte).await, Ok(1..)), "an idle connection is cut too");
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(exchange(&mut refused).await.is_err());
    proxy.set(Fault::None);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut stream).await.unwrap();
    assert_eq!(proxy.cuts(), 2);
}

#[tokio::test]
async fn a_commit_arrives_and_its_acknowledgement_does_not() {
    let database = TestDatabase::create().await.unwrap();
    let url = url::Url::parse(database.url()).unwrap();
    let upstream = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let proxy = FaultProxy::start(upstream.parse().unwrap()).await.unwrap();
    let mut through = url.clone();
    through.set_port(Some(proxy.address().port())).unwrap();

    sqlx::query("create table kept (n int)").execute(&database.pool()).await.unwrap();
    let mut connection = PgConnection::connect(through.as_str()).await.unwrap();
    proxy.set(Fault::CutAfterCommit);
    let mut transaction = connection.begin().await.unwrap();
    sqlx::query("insert into kept values (7)").execute(&mut *transaction).await.unwrap();
    assert!(transaction.commit().await.is_err(), "the client cannot know");
    let kept: Vec<i32> =
        sqlx::query_scalar("select n from kept").fetch_all(&database.pool()).await.unwrap();
    assert_eq!(kept, [7], "and yet it is there");
    assert_eq!(proxy.cuts(), 1);
}
