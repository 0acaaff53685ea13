//! The database that the tests of a run are made on, and a way around the server to it: a file for each of them or, with
//! `TEST_STORE=postgres`, a schema of its own on the server that `TEST_POSTGRES` names. With `serializable` its
//! transactions are, and some of them fail for that reason alone. `./dev test` starts the server, and runs them on all three.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keyrack_server::store::{DATABASE_FILE, Database, Server};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};
use tokio_postgres::{Client, NoTls};

/// The clocks of most tests are set by hours and days.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(1_000_000_000);

/// Where a test keeps its store.
#[derive(Clone)]
pub(crate) enum Place {
    File(std::path::PathBuf),
    /// URL of a schema.
    Schema(String),
}

impl Place {
    /// One that nobody else uses.
    pub(crate) async fn new(dir: &Path) -> Self {
        match setting("TEST_STORE").as_deref() {
            None => Self::File(dir.join(DATABASE_FILE)),
            Some("postgres") => Self::Schema(new_schema().await),
            Some("serializable") => {
                Self::Schema(format!("{}%20-cdefault_transaction_isolation%3Dserializable", new_schema().await))
            }
            Some(other) => panic!("TEST_STORE is {other:?}; there are postgres and serializable"),
        }
    }

    pub(crate) fn database(&self) -> Database {
        self.database_for(FOR_EVER)
    }

    /// The same for a node that answers for so long without it.
    pub(crate) fn database_for(&self, stale_limit: Duration) -> Database {
        match self {
            Self::File(file) => Database::in_directory(file.parent().unwrap(), stale_limit),
            Self::Schema(url) => Database::Server { server: Arc::new(Server::parse(url).unwrap()), stale_limit },
        }
    }

    /// With serializable transactions any statement may fail because of others: here one in five of these does. They come before
    /// anything random is drawn, so that every attempt says the same.
    pub(crate) async fn inject(&self) {
        let Self::Schema(url) = self else { return };
        if !url.contains("serializable") {
            return;
        }
        let mut statements = "CREATE FUNCTION injected() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF random() < 0.2 THEN RAISE EXCEPTION 'injected' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$;"
            .to_owned();
        for (table, when) in [
            ("counters", "NEW.value > 0"),
            ("organizations", "NEW.archived_at IS NULL"),
            ("projects", "NEW.archived_at IS NULL"),
            ("members", "NEW.taken_at IS NULL"),
            ("api_keys", "NEW.revoked_at IS NULL"),
        ] {
            statements += &format!(
                "CREATE TRIGGER injected BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION injected();"
            );
        }
        // And of revocations, which draw nothing random, one in five transactions at its commit. Those of system keys may do more.
        statements += "CREATE FUNCTION injected_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF pg_current_xact_id()::text::bigint % 5 = 0 THEN RAISE EXCEPTION 'injected' USING ERRCODE = '40001'; END IF; \
             RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER injected_late AFTER UPDATE ON api_keys DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW WHEN (NEW.revoked_at IS NOT NULL AND NEW.is_system = 0) EXECUTE FUNCTION injected_late();";
        connect(url).await.batch_execute(&statements).await.unwrap();
    }

    pub(crate) async fn delete(&self) {
        match self {
            Self::File(file) => std::fs::remove_file(file).unwrap(),
            Self::Schema(url) => {
                let connection = connect(url).await;
                let schema = connection.query_one("SELECT current_schema()", &[]).await.unwrap();
                let schema: String = schema.get(0);
                connection.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
            }
        }
    }

    /// A way around the server.
    pub(crate) async fn beside(&self) -> Beside {
        match self {
            Self::File(file) => {
                Beside::Sqlite(SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap())
            }
            Self::Schema(url) => Beside::Postgres(connect(url).await),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it is the tests' own setting")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The URL of a new schema on the server. Without one the tests that need it fail.
pub(crate) async fn new_schema() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = setting("TEST_POSTGRES").expect("run ./dev test: it starts a PostgreSQL and says where");
    let name = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    connect(&server)
        .await
        .batch_execute(&format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}"))
        .await
        .unwrap();
    format!("{server}?options=-csearch_path%3D{name}")
}

/// Where the server of a schema is, and the rest of its URL.
pub(crate) fn parts(schema: &str) -> (SocketAddr, &str) {
    let (address, _) = schema.split_once('@').unwrap().1.split_once('/').unwrap();
    (address.parse().unwrap(), schema.split_once(address).unwrap().1)
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A connection that the server knows nothing of.
pub(crate) enum Beside {
    Sqlite(SqliteConnection),
    Postgres(Client),
}

impl Beside {
    /// Runs statements, whatever refers to what they change. Bytes are written as `x'00'`.
    pub(crate) async fn run(&mut self, statements: impl AsRef<str>) {
        let statements = statements.as_ref();
        match self {
            Self::Sqlite(connection) => {
                let statements = format!("PRAGMA foreign_keys = OFF; {statements}");
                sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.unwrap();
            }
            Self::Postgres(client) => {
                let statements = statements.replace(" x'", " '\\x");
                client.batch_execute(&format!("SET session_replication_role = replica; {statements}")).await.unwrap();
            }
        }
    }

    /// The number that a statement gives; 0 if it gives none.
    pub(crate) async fn number(&mut self, statement: impl AsRef<str>) -> i64 {
        let statement = format!("SELECT COALESCE(CAST(({}) AS BIGINT), 0)", statement.as_ref());
        match self {
            Self::Sqlite(connection) => {
                sqlx::query(AssertSqlSafe(statement)).fetch_one(connection).await.unwrap().get(0)
            }
            Self::Postgres(client) => client.query_one(&statement, &[]).await.unwrap().get(0),
        }
    }

    /// Lets every `INSERT` or `UPDATE` of a table fail, or those of rows for which `when` holds.
    pub(crate) async fn break_it(&mut self, verb: &str, table: &str, when: &str) {
        let when = if when.is_empty() { String::new() } else { format!("WHEN ({when})") };
        let name = format!("broken_{verb}_{table}");
        self.run(match self {
            Self::Sqlite(_) => format!(
                "CREATE TRIGGER {name} BEFORE {verb} ON {table} {when} BEGIN SELECT RAISE(ABORT, 'broken on purpose'); END"
            ),
            Self::Postgres(_) => format!(
                "CREATE OR REPLACE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'broken on purpose'; END $$; \
                 CREATE TRIGGER {name} BEFORE {verb} ON {table} FOR EACH ROW {when} EXECUTE FUNCTION broken()"
            ),
        })
        .await;
    }

    /// Ends that.
    pub(crate) async fn mend(&mut self, verb: &str, table: &str) {
        let name = format!("broken_{verb}_{table}");
        self.run(match self {
            Self::Sqlite(_) => format!("DROP TRIGGER {name}"),
            Self::Postgres(_) => format!("DROP TRIGGER {name} ON {table}"),
        })
        .await;
    }
}
