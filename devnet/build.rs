//! `sqlx::migrate!` reads the folder while it compiles, and cargo notices a new file only when told.
#![expect(clippy::print_stdout, reason = "cargo reads a build script's standard output")]

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
