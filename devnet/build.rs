//! `sqlx::migrate!` reads the folder while it compiles, and cargo notices a new file only when told.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
