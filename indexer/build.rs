//! A migration that was added is compiled in: the macro that embeds them notices only those that it knows.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
