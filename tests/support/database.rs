//! A database for each test.

use std::{
    env,
    ops::{Deref, DerefMut},
    thread,
};

use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

use super::{cluster, template};

/// A migrated database of the test's own, dropped with this value (kept for a look when the test failed).
pub(crate) struct TestDb {
    name: String,
}

/// A session: derefs to the client, and keeps what the server says without being asked.
pub(crate) struct TestClient {
    client: Client,
    connection: JoinHandle<()>,
    /// Notices and notifications, in order.
    pub(crate) messages: mpsc::UnboundedReceiver<AsyncMessage>,
}

/// Makes a migrated database for the running test.
pub(crate) async fn db() -> TestDb {
    let admin = connect(&cluster::server_url("postgres")).await;
    let template = template::migrated(&admin).await;
    create(&admin, &template, "").await
}

/// Makes a database without the schema, for tests of the installation.
pub(crate) async fn empty_db() -> TestDb {
    let admin = connect(&cluster::server_url("postgres")).await;
    create(&admin, "template0", "").await
}

/// Makes a database without the schema that holds the characters of an encoding alone.
pub(crate) async fn empty_db_of(encoding: &str) -> TestDb {
    let admin = connect(&cluster::server_url("postgres")).await;
    create(&admin, "template0", &format!("encoding '{encoding}' locale 'C'")).await
}

/// Opens a session.
pub(crate) async fn connect(url: &str) -> TestClient {
    reach(url).await.unwrap_or_else(|err| panic!("{url}: {err:?}"))
}

/// Opens a session with a server that may be away.
pub(crate) async fn reach(url: &str) -> Result<TestClient, tokio_postgres::Error> {
    let config: Config = url.parse()?;
    let (client, mut connection) = config.connect(NoTls).await?;
    let (sender, messages) = mpsc::unbounded_channel();
    let connection = Handle::current().spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            // Nobody need be listening.
            sender.send(message).ok();
        }
    });
    Ok(TestClient { client, connection, messages })
}

impl TestDb {
    /// The database's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A copy, as `create database … template` makes it, while nobody is connected to this one.
    pub(crate) async fn copy(&self) -> TestDb {
        let admin = connect(&cluster::server_url("postgres")).await;
        let name = format!("{}_copy", self.name);
        admin.batch_execute(&format!("drop database if exists \"{name}\" with (force)")).await.expect("drop");
        let text = format!("create database \"{name}\" template \"{}\"", self.name);
        admin.batch_execute(&text).await.expect("create");
        TestDb { name }
    }

    /// A connection string as the superuser.
    pub(crate) fn url(&self) -> String {
        cluster::server_url(&self.name)
    }

    /// A connection string for another login.
    pub(crate) fn url_as(&self, login: &str) -> String {
        sisyphus::dev::cluster::url(cluster::server(), login, &self.name)
    }

    /// A session as the superuser.
    pub(crate) async fn client(&self) -> TestClient {
        connect(&self.url()).await
    }

    /// A session as a login of its own that is member of a group role, such as `sisyphus_author`.
    pub(crate) async fn client_as(&self, group: &str) -> TestClient {
        self.login(&format!("test_{}", group.trim_start_matches("sisyphus_")), &[group]).await
    }

    /// A session as a named login with these groups, made when it is not there. Roles belong to the whole
    /// server: the name should say its groups, and starts with `test_`.
    pub(crate) async fn login(&self, name: &str, groups: &[&str]) -> TestClient {
        {
            let _turn = cluster::turn("test-roles.lock");
            let admin = self.client().await;
            let missing = admin
                .query_opt("select from pg_roles where rolname = $1", &[&name])
                .await
                .expect("roles")
                .is_none();
            if missing {
                let mut text = format!("create role \"{name}\" login");
                if !groups.is_empty() {
                    text.push_str(&format!(" in role {}", groups.join(", ")));
                }
                admin.batch_execute(&text).await.expect("create role");
            }
        }
        connect(&self.url_as(name)).await
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("kept for a look: psql '{}'", self.url());
            return;
        }
        let name = self.name.clone();
        // Drop cannot await, and the test's runtime is busy with us: a thread with its own.
        let dropped = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let admin = connect(&cluster::server_url("postgres")).await;
                admin.batch_execute(&format!("drop database if exists \"{name}\" with (force)")).await
            })
        });
        if let Ok(Err(err)) = dropped.join() {
            eprintln!("{} is left: {err}", self.name);
        }
    }
}

impl TestClient {
    /// Ends the session and waits until the connection is closed.
    pub(crate) async fn close(self) {
        drop(self.client);
        self.connection.await.ok();
    }

    /// The text of the notices received so far.
    pub(crate) fn notices(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        while let Ok(message) = self.messages.try_recv() {
            if let AsyncMessage::Notice(notice) = message {
                texts.push(notice.message().to_owned());
            }
        }
        texts
    }

    /// How many notifications came so far of what this session listens to.
    pub(crate) fn hints(&mut self) -> usize {
        std::iter::from_fn(|| self.messages.try_recv().ok())
            .filter(|message| matches!(message, AsyncMessage::Notification(_)))
            .count()
    }
}

impl Deref for TestClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for TestClient {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

async fn create(admin: &Client, template: &str, options: &str) -> TestDb {
    let name = database_name();
    admin.batch_execute(&format!("drop database if exists \"{name}\" with (force)")).await.expect("drop");
    let create = format!("create database \"{name}\" template {template} {options}");
    admin.batch_execute(&create).await.expect("create");
    let db = TestDb { name };
    if template != "template0" {
        // Not by adopt_installation(), which raises the numbers of runs.
        let adopt = "update sisyphus.installation i set database_oid = d.oid, database_name = d.datname
                       from pg_database d where d.datname = current_database()";
        db.client().await.batch_execute(adopt).await.expect("adopted");
    }
    db
}

/// From the path of the test: whoever looks at the server sees whose it is, and the next run of the same
/// test drops what this one left. A second database of the same test gets a number.
fn database_name() -> String {
    static MADE: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let path = test_path();
    let mut made = MADE.lock().expect("no panic while held");
    let before = made.iter().filter(|p| **p == path).count();
    made.push(path.clone());
    let mut name = format!("t_{}", path.replace("::", "__"));
    if name.len() > 58 {
        // The end tells tests of one module apart; the rest keeps equal ends apart.
        let sum = path.bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        name = format!("t_{:08x}_{}", sum, &name[name.len() - 46..]);
    }
    if before > 0 { format!("{name}_{before}") } else { name }
}

/// The running test: the name of its thread, or what nextest asked this process for.
fn test_path() -> String {
    match thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => env::args()
            .skip(1)
            .find(|arg| !arg.starts_with('-'))
            .unwrap_or_else(|| format!("process_{}", std::process::id())),
    }
}
