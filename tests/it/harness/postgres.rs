//! A private Postgres for the whole test binary: from the installed server binaries, on a free
//! port, in a temporary folder. A watchdog stops it when the test process is gone, however that
//! ends.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use sea_orm::{ConnectionTrait, Database};

struct Server {
    port: u16,
    // Holds the watchdog's standard input open; its end tells the watchdog to stop the server.
    _watchdog: Child,
}

static SERVER: OnceLock<Option<Server>> = OnceLock::new();

/// True if there is a Postgres to test on; prints a warning if there is none.
pub fn available() -> bool {
    SERVER.get_or_init(start).is_some()
}

/// Creates a fresh database and returns its URL.
pub async fn create(name: &str) -> String {
    copy("template1", name).await
}

/// Creates a database as a copy of another, which must have no connections, and returns its URL.
pub async fn copy(template: &str, name: &str) -> String {
    let db = Database::connect(url("postgres")).await.unwrap();
    db.execute_unprepared(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await.unwrap();
    db.close().await.unwrap();
    url(name)
}

/// The URL of a database.
pub fn url(name: &str) -> String {
    let port = SERVER.get_or_init(start).as_ref().expect("no Postgres").port;
    format!("postgres://postgres@127.0.0.1:{port}/{name}")
}

fn start() -> Option<Server> {
    let Some(bin) = binaries() else {
        eprintln!("\n*** SKIPPED: there are no PostgreSQL server binaries here; tests on Postgres did not run. ***\n");
        assert!(std::env::var_os("SORTIE_REQUIRE_POSTGRES").is_none(), "Postgres is required here");
        return None;
    };
    let folder = std::env::temp_dir().join(format!("sortie_pg_{}", uuid::Uuid::now_v7().simple()));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = r#"
        set -e
        mkdir -p "$FOLDER"
        as=""
        if [ "$(id -u)" = 0 ]; then
            user=postgres; id postgres >/dev/null 2>&1 || user=nobody
            chown "$user" "$FOLDER"
            as="setpriv --reuid=$user --regid=$(id -g $user) --clear-groups"
        fi
        cd "$FOLDER"
        $as "$BIN/initdb" -D "$FOLDER/data" -U postgres -A trust --no-sync -E UTF8 --locale=C >"$FOLDER/log" 2>&1
        $as "$BIN/postgres" -D "$FOLDER/data" -p "$PORT" -k "" -c listen_addresses=127.0.0.1 -c fsync=off \
            -c max_connections=300 -c shared_buffers=64MB -c full_page_writes=off \
            -c wal_level=minimal -c max_wal_senders=0 >>"$FOLDER/log" 2>&1 </dev/null &
        server=$!
        until "$BIN/pg_isready" -q -h 127.0.0.1 -p "$PORT"; do
            kill -0 $server
            sleep 0.1
        done
        echo ready
        cat >/dev/null || true
        kill -QUIT $server 2>/dev/null || true
        wait $server 2>/dev/null || true
        rm -rf "$FOLDER"
    "#;
    #[expect(clippy::zombie_processes, reason = "the watchdog waits for this process")]
    let mut watchdog = Command::new("sh")
        .args(["-c", script])
        .env("FOLDER", &folder)
        .env("BIN", &bin)
        .env("PORT", port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let said = watchdog.stdout.as_mut().map(|out| BufReader::new(out).read_line(&mut line));
    if matches!(said, Some(Ok(_))) && line.trim() == "ready" {
        return Some(Server { port, _watchdog: watchdog });
    }
    panic!("Postgres did not start: {}", std::fs::read_to_string(folder.join("log")).unwrap_or_default());
}

fn binaries() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|all| all.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect())
        .unwrap_or_default();
    found.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    found
        .into_iter()
        .find(|bin| bin.join("initdb").exists() && bin.join("postgres").exists() && bin.join("pg_isready").exists())
}

/// A separate server for one test, which may be killed and started again.
pub struct Own {
    bin: PathBuf,
    folder: PathBuf,
    port: u16,
    server: Child,
}

impl Own {
    /// None if there are no Postgres binaries; a warning has been printed then.
    pub fn start() -> Option<Self> {
        if !available() {
            return None;
        }
        let bin = binaries()?;
        let folder = std::env::temp_dir().join(format!("sortie_own_{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let script = r#"
            if [ "$(id -u)" = 0 ]; then
                user=postgres; id postgres >/dev/null 2>&1 || user=nobody
                chown "$user" "$FOLDER"
                as="setpriv --reuid=$user --regid=$(id -g $user) --clear-groups"
            fi
            cd "$FOLDER" && $as "$BIN/initdb" -D "$FOLDER/data" -U postgres -A trust --no-sync -E UTF8 --locale=C >/dev/null
        "#;
        let made = Command::new("sh").args(["-c", script]).env("FOLDER", &folder).env("BIN", &bin).status().unwrap();
        assert!(made.success());
        let server = Self::serve(&bin, &folder, port);
        let own = Self { bin, folder, port, server };
        own.ready();
        Some(own)
    }

    fn serve(bin: &std::path::Path, folder: &std::path::Path, port: u16) -> Child {
        let script = r#"
            if [ "$(id -u)" = 0 ]; then
                user=postgres; id postgres >/dev/null 2>&1 || user=nobody
                as="setpriv --reuid=$user --regid=$(id -g $user) --clear-groups"
            fi
            cd "$FOLDER" && exec $as "$BIN/postgres" -D "$FOLDER/data" -p "$PORT" -k "" -c listen_addresses=127.0.0.1 >/dev/null 2>&1
        "#;
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("FOLDER", folder).env("BIN", bin).env("PORT", port.to_string());
        command.spawn().unwrap()
    }

    fn ready(&self) -> bool {
        let port = self.port.to_string();
        let ask = || {
            let mut ask = Command::new(self.bin.join("pg_isready"));
            ask.args(["-q", "-t", "1", "-h", "127.0.0.1", "-p", &port]).status().unwrap().success()
        };
        (0..2_000).any(|_| ask())
    }

    pub fn url(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    pub async fn create(&self, name: &str) {
        let db = Database::connect(self.url("postgres")).await.unwrap();
        db.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
        db.close().await.unwrap();
    }

    /// Kills the server with SIGKILL, like a power failure.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts the server again as soon as its old processes are gone.
    pub fn again(&mut self) {
        loop {
            self.server = Self::serve(&self.bin, &self.folder, self.port);
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
            while self.server.try_wait().unwrap().is_none() {
                let port = self.port.to_string();
                let mut ask = Command::new(self.bin.join("pg_isready"));
                if ask.args(["-q", "-t", "1", "-h", "127.0.0.1", "-p", &port]).status().unwrap().success() {
                    return;
                }
                assert!(std::time::Instant::now() < deadline, "Postgres did not come back");
            }
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
