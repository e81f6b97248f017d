//! What people get wrong is refused with the field, the limit and what to do, and nothing is lost or half-written.
//!
//! A row of the list is a function; those that need a world share one.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use alloy::primitives::{Address, U256, address};
use alloy::providers::ProviderBuilder;
use alloy::sol_types::SolInterface;
use auspex_protocol::bindings::IRequestEscrow::{self, IRequestEscrowErrors, Offer, Request};
use auspex_protocol::document::{OfferDocument, RequestDocument};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::world::{World, eventually, program, runtime, send, text};

const PAYEE: &str = "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc=1";
/// A port on which nobody listens.
const NOBODY: &str = "http://127.0.0.1:9";

#[test]
fn each_mistake_of_a_requester_is_named_and_costs_nothing() {
    let world = World::start();
    let rows = || world.graphql("{ requests { id } agents { id } offers { id } }");
    let before = (rows(), spent(&world));
    an_unknown_agent(&world);
    a_wrong_token(&world);
    a_wrong_amount(&world);
    an_expired_deadline(&world);
    an_input_over_8_kib(&world);
    a_wrong_chain_id(&world);
    an_rpc_that_is_down_at_start(&world);
    a_database_without_pgvector(&world);
    a_keystore_with_the_wrong_password(&world);
    a_name_that_nothing_has(&world);
    assert_eq!((rows(), spent(&world)), before, "a mistake costs nothing");

    what_the_escrow_itself_refuses(&world);
}

fn an_unknown_agent(world: &World) {
    let error = world.refused(&["agent", "show", "4711"]);
    assert!(error.contains("agent 4711 does not exist; `auspex agent list`"), "{error}");
    let error = publish(world, "4711", "ETH", "1", "1");
    assert!(error.contains("--agent: agent 4711 does not exist"), "{error}");
    let error = world.refused(&["agent", "show", "no number"]);
    assert!(error.contains("no number"), "{error}");
    let error = world.refused(&["agent", "register", "--uri", "ftp://x", "--as", "agent"]);
    assert!(error.contains("--uri: \"ftp\" is not a scheme of ERC-8004"), "{error}");
}

fn a_wrong_token(world: &World) {
    let error = publish(world, "0", "DOGE", "1", "1");
    assert!(error.contains("token: \"DOGE\" is neither an address, ETH, nor AUSPEX"), "{error}");
    let stranger = "0x00000000000000000000000000000000000a11ce";
    let error = publish(world, "0", stranger, "1", "1");
    assert!(error.contains("is not an ERC-20 token"), "{error}");
    let offer = world.native_offer();
    let error = submit(world, &["--offer", &offer, "--input", "x", "--pay", "authorization"]);
    assert!(error.contains("--pay authorization") && error.contains("--pay direct"), "{error}");
}

fn a_wrong_amount(world: &World) {
    let error = publish(world, "0", "ETH", "0.0000000000000000001", "1");
    assert!(error.contains("--price") && error.contains("more decimals"), "{error}");
    let error = publish(world, "0", "ETH", "much", "1");
    assert!(error.contains("--price"), "{error}");
    let error = publish(world, "0", "ETH", "0", "1");
    assert!(error.contains("ZeroAmount"), "{error}");
    let error = publish(world, "0", "ETH", "1", "99");
    assert!(error.contains("--operator-set: set 99 has no started epoch"), "{error}");
    // An account that has no token cannot pay with it.
    let offer = world.token_offer();
    let poor = ["request", "submit", "--offer", &offer, "--input", "x", "--as", "payee-3"];
    let error = world.refused(&poor);
    assert!(error.contains("holds 0 AUSPEX, but the request costs 10."), "{error}");
}

fn an_expired_deadline(world: &World) {
    let offer = world.native_offer();
    for duration in ["0", "29", "86401"] {
        let error = submit(world, &["--offer", &offer, "--input", "x", "--duration", duration]);
        let expected = format!("--duration: {duration} s, but the offer takes 30 to 86400 s");
        assert!(error.contains(&expected), "{error}");
    }
}

fn an_input_over_8_kib(world: &World) {
    let offer = world.native_offer();
    let long = "x".repeat(8_193);
    let error = submit(world, &["--offer", &offer, "--input", &long]);
    assert!(error.contains("--input: 8193 bytes, over the limit of 8192"), "{error}");
    let file = world.path("long.txt");
    std::fs::write(&file, &long).expect("write");
    let error = submit(world, &["--offer", &offer, "--input", &format!("@{}", file.display())]);
    assert!(error.contains("--input: 8193 bytes, over the limit of 8192"), "{error}");
    let error = submit(world, &["--offer", &offer, "--input", ""]);
    assert!(error.contains("--input: is empty"), "{error}");
    let error = submit(world, &["--offer", &offer, "--input", "@no-such-file"]);
    assert!(error.contains("--input: read no-such-file"), "{error}");
}

fn a_wrong_chain_id(world: &World) {
    let mut deployment = world.file()["deployment"].clone();
    deployment["chainId"] = 8453.into();
    let elsewhere = world.path("elsewhere.json");
    std::fs::write(&elsewhere, deployment.to_string()).expect("write");
    let elsewhere = elsewhere.display().to_string();
    let error = register(world, &["--as", "agent", "--deployment", &elsewhere]);
    assert!(error.contains("reports 31337, but the contracts are on 8453"), "{error}");
    let file = world.file();
    let (database, rpc) = (text(&file["databaseUrl"]), text(&file["rpcUrl"]));
    let error = service_error(
        world,
        &["indexer", "run", "--deployment", &elsewhere, "--database-url", &database],
        &[("AUSPEX_RPC_URL", &rpc), ("AUSPEX_INDEXER_LISTEN", "127.0.0.1:0")],
    );
    assert!(error.contains("31337") && error.contains("8453"), "{error}");
}

/// A command says so and ends; a service says so and waits, because endpoints come back.
fn an_rpc_that_is_down_at_start(world: &World) {
    let error = register(world, &["--as", "agent", "--rpc-url", NOBODY]);
    assert!(error.contains("127.0.0.1:9 does not answer; check --rpc-url"), "{error}");
    let error = world.refused(&["agent", "list", "--indexer-url", NOBODY]);
    assert!(error.contains("does not answer"), "{error}");

    let database = text(&world.file()["databaseUrl"]).replace("auspex_indexer", "postgres");
    let mut indexer = Command::new(program())
        .args(["indexer", "run", "--database-url", &database, "--deployment"])
        .arg(world.path("deployment.json"))
        .env("AUSPEX_RPC_URL", NOBODY)
        .env("AUSPEX_INDEXER_LISTEN", "127.0.0.1:0")
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the indexer");
    let (log, said) = (indexer.stderr.take().expect("piped"), indexer.stdout.take());
    let waits = BufReader::new(log)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("does not answer yet"));
    let line = waits.expect("the indexer says that it waits");
    assert!(line.contains("127.0.0.1:9"), "{line}");
    send(indexer.id(), Signal::SIGTERM);
    drop(said);
    assert!(indexer.wait().expect("it ends").success(), "waiting can be interrupted");
}

/// The server's list of extensions is shadowed by one that lacks pgvector.
fn a_database_without_pgvector(world: &World) {
    let base = text(&world.file()["databaseUrl"]).replace("auspex_indexer", "template1");
    runtime().block_on(async {
        use sqlx::Connection;
        let mut connection = sqlx::PgConnection::connect(&base).await.expect("connect");
        for statement in [
            "create schema shadow",
            "create table shadow.pg_available_extensions (name name, default_version text, installed_version text)",
        ] {
            sqlx::query(statement).execute(&mut connection).await.expect(statement);
        }
    });
    let database = format!("{base}?options=-csearch_path%3Dshadow,pg_catalog");
    let document = world.path("question.md");
    std::fs::write(&document, "# A question\n\nIs there pgvector?\n").expect("write");
    let document = document.display().to_string();
    let error = world.refused(&["corpus", "add", &document, "--database-url", &database]);
    assert!(error.contains("a database without pgvector") && error.contains("install"), "{error}");
    let rpc = text(&world.file()["rpcUrl"]);
    let deployment = world.path("deployment.json").display().to_string();
    let error = service_error(
        world,
        &["indexer", "run", "--deployment", &deployment, "--database-url", &database],
        &[("AUSPEX_RPC_URL", &rpc), ("AUSPEX_INDEXER_LISTEN", "127.0.0.1:0")],
    );
    assert!(error.contains("a database without pgvector"), "{error}");
}

fn a_keystore_with_the_wrong_password(world: &World) {
    let keystore = text(&world.file()["accounts"][4]["keystore"]);
    let wrong = world.path("wrong-password");
    std::fs::write(&wrong, "not it").expect("write");
    let password = wrong.display().to_string();
    let with_wrong = ["--keystore", &keystore, "--password-file", &password];
    let error = register(world, &with_wrong);
    assert!(error.contains("wrong-password"), "a readable password file is refused: {error}");
    make_private(&wrong);
    let error = register(world, &with_wrong);
    assert!(error.contains("wrong password") && error.contains(&keystore), "{error}");
    assert!(!error.contains("not it"), "the password is not repeated: {error}");
}

fn a_name_that_nothing_has(world: &World) {
    let unknown = format!("0x{}", "ab".repeat(32));
    let error = submit(world, &["--offer", &unknown, "--input", "x"]);
    assert!(error.contains("unknown to the indexer; `auspex offer list`"), "{error}");
    let error = register(world, &["--as", "nobody"]);
    assert!(error.contains("--as: no account \"nobody\" in the world file; it has"), "{error}");
}

/// Somebody who does not use this client is refused by the contract, in its own words.
fn what_the_escrow_itself_refuses(world: &World) {
    let hash = world.native_offer();
    let question = "Who checks what clients send?";
    let request = world.submit(&hash, question, "direct");
    let view = eventually("indexing", || world.rest(&format!("v1/requests/{request}")));
    let terms: RequestDocument = serde_json::from_value(view["request"].clone()).expect("terms");
    let terms = Request::try_from(&terms).expect("terms");
    let offer = world.rest(&format!("v1/offers/{hash}")).expect("an offer");
    let offer: OfferDocument = serde_json::from_value(offer["offer"].clone()).expect("an offer");
    let offer = Offer::from(&offer);
    let refused = |terms: &Request, value: u128, input: &[u8]| {
        let file = world.file();
        let escrow: Address = text(&file["deployment"]["requestEscrow"]).parse().expect("address");
        let rpc = text(&file["rpcUrl"]).parse().expect("URL");
        let escrow = IRequestEscrow::new(escrow, ProviderBuilder::new().connect_http(rpc));
        let call = escrow.request(terms.clone(), offer.clone(), input.to_vec().into());
        let call = call.value(U256::from(value)).from(terms.payer);
        let error = runtime().block_on(async { call.call().await.expect_err("refused") });
        let data = error.as_revert_data().unwrap_or_else(|| panic!("no revert: {error}"));
        format!("{:?}", IRequestEscrowErrors::abi_decode(&data).expect("an error of the escrow"))
    };
    let price = terms.maxAmount;
    let again = refused(&terms, price, question.as_bytes());
    assert!(again.contains("WrongStatus"), "the same terms twice: {again}");
    let expired = Request { deadline: "1000".parse().expect("a time"), ..terms };
    let error = refused(&expired, price, question.as_bytes());
    assert!(error.contains("DeadlineOutOfRange") && error.contains("earliest"), "{error}");
    let token = Request { token: address!("00000000000000000000000000000000000a11ce"), ..terms };
    let error = refused(&token, price, question.as_bytes());
    assert!(error.contains("TermsMismatch") && error.contains("token"), "{error}");
    let amount = Request { maxAmount: price + 1, ..terms };
    let error = refused(&amount, price + 1, question.as_bytes());
    assert!(error.contains("TermsMismatch") && error.contains("maxAmount"), "{error}");
    let salted = Request { salt: U256::from(7).into(), ..terms };
    let error = refused(&salted, price - 1, question.as_bytes());
    assert!(error.contains("WrongValue"), "{error}");
    let long = [b'x'; 8_193];
    let oversized = Request { inputHash: alloy::primitives::keccak256(long), ..salted };
    let error = refused(&oversized, price, &long);
    assert!(error.contains("InputTooLarge") && error.contains("8192"), "{error}");
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
    std::fs::write(world.path("broken.pdf"), "%PDF-1.7\nthis is none").expect("write");
    let error = add("broken.pdf");
    assert!(error.contains("broken.pdf"), "{error}");
    std::fs::write(world.path("picture.png"), b"\x89PNG\r\n").expect("write");
    let error = add("picture.png");
    assert!(error.contains("picture.png"), "{error}");

    let corpora = world.run(&["corpus", "list", "--database-url", &database]);
    let documents = corpora[0]["documents"].as_array().map(Vec::len);
    assert!(matches!(documents, None | Some(0)), "{corpora}");
    two_operators_with_one_key(&world);
}

fn two_operators_with_one_key(world: &World) {
    let market = world.market();
    let (owner, thief) = (&market["operators"][0], &market["operators"][1]);
    // On chain, a key has one owner.
    let signer = text(&owner["signer"]);
    let other = "0x00000000000000000000000000000000000a11ce";
    let taken = ["operator", "register", "--signer", &signer, "--transmitter", other];
    let withdrawal = text(&thief["owner"]);
    let taken = [&taken[..], &["--withdrawal", &withdrawal, "--as", "payee-1"]].concat();
    let error = world.refused(&taken);
    assert!(error.contains("SignerTaken") && error.contains("signer"), "{error}");

    // A node that is started with another operator's key says whose it is.
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
    assert!(error.contains("two operators cannot share a key"), "{error}");
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

fn submit(world: &World, arguments: &[&str]) -> String {
    world.refused(&[&["request", "submit", "--as", "requester"], arguments].concat())
}

fn register(world: &World, arguments: &[&str]) -> String {
    world.refused(&[&["agent", "register", "--uri", "https://x"], arguments].concat())
}

fn publish(world: &World, agent: &str, token: &str, price: &str, set: &str) -> String {
    world.refused(&[
        "offer",
        "publish",
        "--agent",
        agent,
        "--token",
        token,
        "--price",
        price,
        "--operator-set",
        set,
        "--payee",
        PAYEE,
        "--as",
        "agent",
    ])
}

/// A service that cannot start, and why; its logs come first, its error is last.
fn service_error(world: &World, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = Command::new(program())
        .args(arguments)
        .envs(environment.iter().copied())
        .env("AUSPEX_WORLD", world.path("world.json"))
        .stdin(Stdio::null())
        .output()
        .expect("run auspex");
    assert!(!output.status.success(), "{arguments:?} succeeded");
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().filter(|line| line.starts_with("error:")).collect()
}

/// Transactions that the world's people have sent.
fn spent(world: &World) -> Vec<Value> {
    let file = world.file();
    let accounts = file["accounts"].as_array().expect("accounts");
    let people = accounts.iter().filter(|account| {
        let name = text(&account["name"]);
        !name.starts_with("operator-")
    });
    people
        .map(|account| world.rpc("eth_getTransactionCount", &json!([account["address"], "latest"])))
        .collect()
}

fn make_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o400)).expect("permissions");
}
