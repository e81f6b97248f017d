//! `auspex operator status --watch` on a terminal, read as a person reads it: from the picture that the terminal shows.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use rustix::termios::{Winsize, tcsetwinsize};

mod terminal;

use crate::world::program;
use terminal::Terminal;

/// A node's status page, which the test changes.
struct Node {
    url: String,
    status: Arc<Mutex<String>>,
}

impl Node {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let status = Arc::new(Mutex::new(String::new()));
        let page = Arc::clone(&status);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.expect("a connection");
                let mut lines = BufReader::new(connection.try_clone().expect("a handle")).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let page = page.lock().expect("a page").clone();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                // A view that has gone does not read any more.
                let _ =
                    write!(connection, "{head}\r\ncontent-length: {}\r\n\r\n{page}", page.len());
            }
        });
        let node = Self { url, status };
        node.says("ready-made", 7);
        node
    }

    fn says(&self, version: &str, jobs: u32) {
        let status = serde_json::json!({
            "version": version, "chainId": 31337, "registered": true, "draining": false,
            "notReadyBecause": ["bad \u{1b}[31mwords\u{1b}[2J"],
            "jobs": [{"state": "signed", "count": jobs}],
        });
        *self.status.lock().expect("a page") = status.to_string();
    }
}

/// The command on a terminal of its own.
struct View {
    child: Child,
    master: File,
    slave: OwnedFd,
    local_flags: LocalFlags,
    terminal: Arc<Mutex<Terminal>>,
    reader: Option<JoinHandle<()>>,
}

impl View {
    fn open(node: &str, columns: u16, rows: u16) -> Self {
        let pair = openpty(None, None).expect("a terminal");
        let (master, slave) = (File::from(pair.master), pair.slave);
        tcsetwinsize(&master, size(columns, rows)).expect("a size");
        let local_flags = tcgetattr(&slave).expect("modes").local_flags;
        let end = || Stdio::from(slave.try_clone().expect("a handle"));
        let child = Command::new(program())
            .args(["operator", "status", "--watch", "--node", node])
            .env("NO_COLOR", "1")
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("a process");
        let terminal = Arc::new(Mutex::new(Terminal::new(columns.into(), rows.into())));
        let shown = Arc::clone(&terminal);
        let mut output = master.try_clone().expect("a handle");
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends when nobody holds the other side any more.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().expect("a terminal").take(&bytes[..count]);
            }
        });
        Self { child, master, slave, local_flags, terminal, reader: Some(reader) }
    }

    fn terminal(&self) -> MutexGuard<'_, Terminal> {
        self.terminal.lock().expect("a terminal")
    }

    fn sees(&self, what: &str, condition: impl Fn(&Terminal) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !condition(&self.terminal()) {
            assert!(Instant::now() < deadline, "{what} is never seen:\n{:#?}", *self.terminal());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn presses(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("pressed");
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(i32::try_from(self.child.id()).expect("an id"));
        kill(process, signal).expect("a signal");
    }

    fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.master, size(columns, rows)).expect("a size");
        self.terminal().resize(columns.into(), rows.into());
        // What was drawn for the size before may have been on its way.
        self.redraws();
        self.terminal().forget_scrolling();
        self.redraws();
    }

    /// Has it drawn twice; the second picture was begun after now.
    fn redraws(&self) {
        for _ in 0..2 {
            let drawn = self.terminal().pictures();
            // The kernel tells only the processes of the terminal's own session.
            self.signal(Signal::SIGWINCH);
            self.sees("another picture", |terminal| drawn < terminal.pictures());
        }
    }

    /// Waits for the end, and sees that the terminal is as it was.
    fn ends(mut self) -> ExitStatus {
        let status = self.child.wait().expect("an end");
        let after = tcgetattr(&self.slave).expect("modes").local_flags;
        assert_eq!(after, self.local_flags, "keys are read as before");
        drop(self.slave);
        self.reader.take().expect("a reader").join().expect("no panic");
        let terminal = self.terminal.lock().expect("a terminal");
        assert!(!terminal.is_other_screen() && terminal.has_cursor(), "{terminal:#?}");
        assert!(!terminal.was_coloured() && !terminal.has_scrolled(), "{terminal:#?}");
        status
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}

#[test]
fn the_live_view_follows_the_node_and_the_terminal() {
    let node = Node::start();
    let mut view = View::open(&node.url, 100, 30);
    view.sees("the status", |terminal| terminal.shows("ready-made") && terminal.shows("signed"));
    view.sees("the terminal taken over", |terminal| {
        terminal.is_other_screen() && !terminal.has_cursor()
    });
    let taken = tcgetattr(&view.slave).expect("modes").local_flags;
    assert!(!taken.intersects(LocalFlags::ECHO | LocalFlags::ICANON), "{taken:?}");
    assert!(view.terminal().shows("bad  [31mwords [2J"), "words do not steer the terminal");

    node.says("newer", 12345);
    view.sees("the change", |terminal| terminal.shows("newer") && terminal.shows("12345"));
    assert!(!view.terminal().shows("ready-made"));
    // Keys that mean nothing are not even shown.
    view.presses(b"xyzzy\x1a\r");

    view.resize(20, 5);
    view.sees("a small picture", |terminal| terminal.row(0) == "auspex operator stat");
    view.sees("that there is more", |terminal| terminal.row(4) == "…");
    view.resize(1, 1);
    view.sees("a tiny picture", |terminal| terminal.row(0) == "…");
    view.resize(120, 40);
    view.sees("a large picture", |terminal| terminal.shows("12345"));
    assert!(!view.terminal().shows("xyzzy"));
    view.presses(b"q");
    assert!(view.ends().success());
}

#[test]
fn however_the_live_view_ends_the_terminal_is_as_before() {
    let node = Node::start();
    let mut interrupted = View::open(&node.url, 80, 24);
    interrupted.sees("the status", |terminal| terminal.shows("ready-made"));
    interrupted.presses(b"\x03");
    assert!(interrupted.ends().success());

    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let ended = View::open(&node.url, 80, 24);
        ended.sees("the status", |terminal| terminal.shows("ready-made"));
        ended.signal(signal);
        assert!(ended.ends().success());
    }

    // A node that accepts and never answers keeps nobody from leaving.
    let mute = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}", mute.local_addr().expect("an address"));
    let mut waiting = View::open(&url, 80, 24);
    waiting.sees("whom it asks", |terminal| terminal.shows("asking the node at"));
    waiting.presses(b"q");
    assert!(waiting.ends().success());

    let refused = Command::new(program())
        .args(["operator", "status", "--watch", "--node", &node.url])
        .output()
        .expect("a process");
    assert!(!refused.status.success() && refused.stdout.is_empty());
    let reason = String::from_utf8_lossy(&refused.stderr);
    assert!(reason.contains("not a terminal"), "{reason}");
}
