use super::*;

fn contract(events: &[&str], abi: &str) -> anyhow::Result<FollowedContract> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("abi.json"), abi).unwrap();
    let file = ContractFile {
        name: "Usdc".into(),
        address: Address::repeat_byte(7),
        abi: "abi.json".into(),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        start_block: 5,
    };
    FollowedContract::new(file, folder.path())
}

const ERC20: &str = r#"[
    {"type": "event", "anonymous": false, "name": "Transfer", "inputs": [
        {"name": "_from", "type": "address", "indexed": true},
        {"name": "to", "type": "address", "indexed": true},
        {"name": "token_value", "type": "uint256"}]},
    {"type": "event", "anonymous": false, "name": "Noted", "inputs": [
        {"name": "id", "type": "uint8"},
        {"name": "", "type": "string"},
        {"name": "tag", "type": "string", "indexed": true}]},
    {"type": "event", "anonymous": false, "name": "Listed", "inputs": [{"name": "items", "type": "uint256[]"}]},
    {"type": "event", "anonymous": false, "name": "Same", "inputs": [{"name": "a", "type": "bool"}]},
    {"type": "event", "anonymous": false, "name": "Same", "inputs": [{"name": "a", "type": "int64"}]}
]"#;

#[test]
fn parameters_become_fields_of_their_types() {
    let contract = contract(&["Transfer", "Noted"], ERC20).unwrap();
    let entity = contract.events[0].entity(8453, contract.address);
    assert_eq!(
        (entity.name, entity.one, entity.many),
        ("UsdcTransfer", "usdcTransfer", "usdcTransfers")
    );
    let names: Vec<&str> =
        entity.fields.iter().skip(PLACE_FIELDS).map(|field| field.name).collect();
    assert_eq!(names, ["from", "to", "tokenValue"]);
    assert!(entity.source.contains("indexer.abi_uint(substring(f.data from 1 for 32)) as p2"));

    let entity = contract.events[1].entity(8453, contract.address);
    let fields = &entity.fields[PLACE_FIELDS..];
    // A name that is taken, one that is missing, and a topic that holds only a hash.
    let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
    assert_eq!(names, ["idArg", "arg1", "tag"]);
    assert!(matches!(fields[0].kind, entity::Kind::Int));
    assert!(matches!(fields[2].kind, entity::Kind::Bytes));
    assert!(entity.source.contains("f.topic1 as p2"));
}

const PLACE_FIELDS: usize = 7;

#[test]
fn what_cannot_be_followed_is_refused_with_its_reason() {
    let reason = |events: &[&str]| format!("{:#}", contract(events, ERC20).unwrap_err());
    assert!(reason(&["Approval"]).contains("Approval is not in the ABI"));
    assert!(reason(&["Listed"]).contains("arrays and tuples"));
    assert!(reason(&["Same"]).contains("Same(bool) and Same(int64)"));
    assert!(reason(&[]).contains("name 1 to"));
    assert!(contract(&["Same(int64)"], ERC20).is_ok());
    let artifact = format!("{{\"abi\": {ERC20}, \"bytecode\": \"0x\"}}");
    assert!(contract(&["Transfer"], &artifact).is_ok());
}
