use std::net::{Ipv4Addr, TcpListener};

use auspex_devnet::port;

#[test]
fn a_reserved_port_is_nobody_elses_until_it_is_given_back() {
    let first = port::reserve().expect("a port");
    let number = first.number();
    TcpListener::bind(first.address()).expect("a service can listen on it");
    let error = port::reserve_or(Some(number)).expect_err("reserved");
    assert!(error.to_string().contains(&number.to_string()), "{error}");
    drop(first);
    assert_eq!(port::reserve_or(Some(number)).expect("free again").number(), number);
}

#[test]
fn a_port_that_a_foreign_program_has_is_refused() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let number = listener.local_addr().expect("address").port();
    let error = port::reserve_or(Some(number)).expect_err("in use");
    assert!(error.to_string().contains("is in use"), "{error}");
}

#[test]
fn many_reservations_at_once_are_all_different() {
    let threads: Vec<_> = (0..8)
        .map(|_| std::thread::spawn(|| (0..16).map(|_| port::reserve().expect("a port")).collect()))
        .collect();
    let reservations: Vec<Vec<port::Reservation>> =
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    let mut numbers: Vec<u16> =
        reservations.iter().flatten().map(port::Reservation::number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 8 * 16);
}
