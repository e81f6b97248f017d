use alloy::primitives::B256;

use super::*;

fn contract(events: &[&str], abi: &str) -> anyhow::Result<FollowedContract> {
    with_place(events, abi, Some(Address::repeat_byte(7)), None)
}

fn with_place(
    events: &[&str],
    abi: &str,
    address: Option<Address>,
    factory: Option<(&str, &str)>,
) -> anyhow::Result<FollowedContract> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("abi.json"), abi).unwrap();
    let file = ContractFile {
        name: "Usdc".into(),
        address,
        factory: factory.map(|(event, parameter)| FactoryFile {
            address: Address::repeat_byte(8),
            abi: "abi.json".into(),
            event: event.to_owned(),
            parameter: parameter.to_owned(),
        }),
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
    let entity = contract.events[0].entity(8453, &contract.place);
    assert_eq!(
        (entity.name, entity.one, entity.many),
        ("UsdcTransfer", "usdcTransfer", "usdcTransfers")
    );
    let names: Vec<&str> =
        entity.fields.iter().skip(PLACE_FIELDS).map(|field| field.name).collect();
    assert_eq!(names, ["from", "to", "tokenValue"]);
    assert!(entity.source.contains("indexer.abi_uint(substring(f.data from 1 for 32)) as p2"));

    let entity = contract.events[1].entity(8453, &contract.place);
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
    let both = Some(Address::repeat_byte(7));
    let error = with_place(&["Transfer"], ERC20, both, Some(("Transfer", "to"))).unwrap_err();
    assert!(error.to_string().contains("address, factory: name one of them"));
    let artifact = format!("{{\"abi\": {ERC20}, \"bytecode\": \"0x\"}}");
    assert!(contract(&["Transfer"], &artifact).is_ok());
}

#[test]
fn a_created_contract_is_found_where_the_event_holds_it() {
    const FACTORY: &str = r#"[
        {"type": "event", "anonymous": false, "name": "Made", "inputs": [
            {"name": "fee", "type": "uint24", "indexed": true},
            {"name": "spacing", "type": "int24"},
            {"name": "pool", "type": "address"},
            {"name": "owner", "type": "address", "indexed": true}]},
        {"type": "event", "anonymous": false, "name": "Behind", "inputs": [
            {"name": "pair", "type": "uint256[2]"}, {"name": "pool", "type": "address"}]},
        {"type": "event", "anonymous": false, "name": "Swap", "inputs": [{"name": "amount", "type": "uint256"}]}
    ]"#;
    let factory = |event: &str, parameter: &str| {
        with_place(&["Swap"], FACTORY, None, Some((event, parameter))).map(
            |contract| match contract.place {
                Place::CreatedBy(factory) => factory,
                Place::At(address) => panic!("at {address}"),
            },
        )
    };
    let of_data = factory("Made", "pool").unwrap();
    let address = Address::repeat_byte(8);
    let word = |byte: u8| Address::repeat_byte(byte).into_word();
    let topics = [of_data.creation, word(1), word(2)];
    let data = [word(3).as_slice(), word(4).as_slice()].concat();
    assert_eq!(of_data.created(address, &topics, &data), Some(Address::repeat_byte(4)));
    assert_eq!(of_data.created(address, &topics, &data[..63]), None, "data that is cut");
    assert_eq!(of_data.created(Address::ZERO, &topics, &data), None, "another contract");
    assert_eq!(of_data.created(address, &[B256::ZERO], &data), None, "another event");
    let of_topic = factory("Made", "owner").unwrap();
    assert_eq!(of_topic.created(address, &topics, &data), Some(Address::repeat_byte(2)));
    assert_eq!(of_topic.created(address, &topics[..2], &data), None, "a topic that is missing");

    let reason =
        |event: &str, parameter: &str| format!("{:#}", factory(event, parameter).unwrap_err());
    assert!(reason("Made", "fee").contains("is of type uint24, not address"));
    assert!(reason("Made", "token").contains("has none called token"));
    assert!(reason("Behind", "pool").contains("behind an array or a tuple"));
    assert!(reason("Gone", "pool").contains("Gone is not in the ABI"));
}
