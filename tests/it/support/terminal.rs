//! The real program at a real pseudo-terminal, whose screen is what an emulator makes of its bytes.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::num::NonZero;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::time::Instant;
use vt100::Parser;

/// The program, and the screen on which it shows itself.
pub(crate) struct Terminal {
    program: Child,
    master: File,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    emulator: Parser,
    bytes: Vec<u8>,
    over: bool,
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

impl Terminal {
    /// Runs the program in this folder at a terminal so large; what else it needs to know is in `variables`.
    pub(crate) fn run(
        arguments: &[&str],
        folder: &Path,
        (columns, rows): (u16, u16),
        variables: &[(&str, &str)],
    ) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let master = File::from(master);
        resize(&master, columns, rows);
        let side = || Stdio::from(terminal.try_clone().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        command.args(arguments).current_dir(folder).stdin(side()).stdout(side()).stderr(side());
        command
            .env("TERM", "xterm-256color")
            .env("RUST_BACKTRACE", "0")
            .env_remove("CI")
            .env_remove("NO_COLOR");
        let program = command.envs(variables.iter().copied()).spawn().unwrap();
        // Closed here, so that the last one to close it is the program.
        drop((command, terminal));
        let emulator = Parser::new(cells(rows), cells(columns), 1000);
        let seen = Arc::new(Mutex::new(Seen { emulator, bytes: Vec::new(), over: false }));
        let (mut reader, into) = (master.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let read = reader.read(&mut buffer);
                let mut seen = into.lock().unwrap();
                match read {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // The far side is closed.
                    Ok(0) | Err(_) => return seen.over = true,
                    Ok(count) => {
                        seen.emulator.process(&buffer[..count]);
                        seen.bytes.extend(&buffer[..count]);
                    }
                }
            }
        });
        Self { program, master, seen }
    }

    /// The text on the screen, a line each.
    pub(crate) fn screen(&self) -> Vec<String> {
        let text = self.seen.lock().unwrap().emulator.screen().contents();
        text.lines().map(str::to_owned).collect()
    }

    /// Every byte that came.
    pub(crate) fn bytes(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap().bytes).into_owned()
    }

    /// Whether the cursor is visible and at the start of a line.
    pub(crate) fn is_clean(&self) -> bool {
        let seen = self.seen.lock().unwrap();
        let screen = seen.emulator.screen();
        !screen.hide_cursor() && screen.cursor_position().1 == 0 && !screen.alternate_screen()
    }

    /// Waits until the screen shows what is wanted.
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "never {what}:\n{}", screen.join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.seen.lock().unwrap().emulator.screen_mut().set_size(cells(rows), cells(columns));
        resize(&self.master, columns, rows);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program), signal).unwrap();
    }

    /// The exit code, once it has ended and everything is seen.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let over = self.seen.lock().unwrap().over;
            if let Some(status) = self.program.try_wait().unwrap().filter(|_| over) {
                return status.code();
            }
            assert!(Instant::now() < end, "never ended:\n{}", self.screen().join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Ended long ago, most of the time.
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

fn resize(master: &File, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}
