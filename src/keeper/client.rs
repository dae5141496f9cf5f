//! The guardian's end of the keeper's socket.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::Signal,
    unistd::{Pid, geteuid},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::Command,
    time::timeout,
};

use super::{
    directory::StateDirectory,
    protocol::{Event, GuardianHello, KeeperHello, MAX_LINE, PROTOCOL, Request},
    sys,
};
use crate::error::{Error, ErrorKind, Result};

/// How long a keeper may take to start, or to answer the hello.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at a keeper that is just starting or just leaving.
const GLANCE: Duration = Duration::from_millis(10);

/// A connection that has been greeted.
///
/// After the greeting the keeper offers every unacknowledged result without being asked. Dropping the
/// client leaves the jobs alone.
#[derive(Debug)]
pub struct KeeperClient {
    keeper: KeeperHello,
    process: KeeperProcess,
    sender: KeeperSender,
    receiver: KeeperReceiver,
}

/// The process of a keeper: it stays that one when its pid is used again. None where it cannot be seen from here, as in
/// another pid namespace.
#[derive(Debug, Clone)]
pub struct KeeperProcess(Option<Arc<OwnedFd>>);

impl KeeperProcess {
    /// Of who listens at the other end. Its pid as it is here, which may not be what the keeper says of itself.
    pub fn at(stream: &UnixStream) -> Self {
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).filter(|pid| *pid > 0);
        Self(pid.and_then(|pid| sys::pidfd_open(Pid::from_raw(pid)).ok()).map(Arc::new))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let cannot = fault("the keeper cannot be signalled");
        let Some(process) = &self.0 else { return Err(cannot.source("it cannot be seen from here")) };
        sys::pidfd_kill(process.as_fd(), signal as i32).map_err(|errno| cannot.source(errno))
    }
}

/// What is in the place of a keeper.
#[derive(Debug)]
pub enum Found {
    /// A keeper that has been greeted.
    Answers(Box<KeeperClient>),
    /// One that is alive, and has not answered in time.
    Silent,
    /// None that is alive.
    Nobody,
}

/// The half that speaks.
#[derive(Debug)]
pub struct KeeperSender {
    stream: OwnedWriteHalf,
}

/// The half that listens.
#[derive(Debug)]
pub struct KeeperReceiver {
    stream: OwnedReadHalf,
    buffer: Vec<u8>,
    /// Where the first unread line begins, and up to where no line end was found.
    begin: usize,
    searched: usize,
}

impl KeeperClient {
    /// Connects to the keeper of this directory, and starts one, detached, when none is alive. A keeper
    /// that starts first ends what a dead predecessor left running.
    pub async fn connect_or_start(
        directory: &StateDirectory,
        epoch: u64,
        policy: Option<&Path>,
    ) -> Result<Self> {
        // Not current_exe(): after an upgrade of the package that path is another program, or gone.
        Self::connect_or_start_with(directory, epoch, Path::new("/proc/self/exe"), policy).await
    }

    /// As [`Self::connect_or_start`], with the program to start.
    pub async fn connect_or_start_with(
        directory: &StateDirectory,
        epoch: u64,
        program: &Path,
        policy: Option<&Path>,
    ) -> Result<Self> {
        let begun = Instant::now();
        loop {
            if let Some(client) = Self::connect_alive(directory, epoch).await? {
                return Ok(client);
            }
            if begun.elapsed() > PATIENCE {
                return Err(fault(format!("no keeper stays in {:?}", directory.path())));
            }
            start_keeper(directory, program, policy).await?;
        }
    }

    /// Connects to the keeper of this directory if there is one, and waits so long for its answer.
    pub async fn find(directory: &StateDirectory, epoch: u64, patience: Duration) -> Result<Found> {
        match timeout(patience, Self::connect_alive(directory, epoch)).await {
            Ok(Ok(Some(client))) => Ok(Found::Answers(Box::new(client))),
            Ok(Ok(None)) => Ok(Found::Nobody),
            // It has not taken connections for so long that its queue is full.
            Ok(Err(err)) if is_full(&err) => Ok(Found::Silent),
            Ok(Err(err)) => Err(err),
            Err(_) => Ok(Found::Silent),
        }
    }

    /// Connects to the keeper of this directory, also to one that is only about to listen; none when none is
    /// alive.
    pub async fn connect_alive(directory: &StateDirectory, epoch: u64) -> Result<Option<Self>> {
        let begun = Instant::now();
        loop {
            if let Some(client) = Self::connect(directory, epoch).await? {
                return Ok(Some(client));
            }
            if !directory.keeper_is_alive()? {
                return Ok(None);
            }
            if begun.elapsed() > PATIENCE {
                let message = format!("the keeper of {:?} is alive but does not listen", directory.path());
                return Err(fault(message));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Connects to a keeper that somebody else starts, and waits for that; none when none came.
    pub async fn connect_when_there(directory: &StateDirectory, epoch: u64) -> Result<Option<Self>> {
        let begun = Instant::now();
        loop {
            let client = Self::connect(directory, epoch).await?;
            if client.is_some() || begun.elapsed() > PATIENCE {
                return Ok(client);
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Connects to a keeper that is already there; none when nobody listens.
    pub async fn connect(directory: &StateDirectory, epoch: u64) -> Result<Option<Self>> {
        let stream = match UnixStream::connect(directory.socket()).await {
            Ok(stream) => stream,
            Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            // Out of descriptors, no right, a full queue: somebody may listen all the same.
            Err(err) => {
                let message = format!("cannot connect to the keeper at {:?}", directory.socket());
                return Err(fault(message).source(err));
            }
        };
        let uid =
            stream.peer_cred().map_err(|err| fault("cannot see whose the keeper is").source(err))?.uid();
        if ![0, geteuid().as_raw()].contains(&uid) {
            return Err(fault(format!("the keeper at {:?} is user {uid}'s", directory.socket()))
                .hint("it has to be root's or this user's: see who may write to that directory"));
        }
        // Before it is greeted: who answers is alive by then, and this is its process.
        let process = KeeperProcess::at(&stream);
        let (read, write) = stream.into_split();
        let mut sender = KeeperSender { stream: write };
        let mut receiver = KeeperReceiver { stream: read, buffer: Vec::new(), begin: 0, searched: 0 };
        let greeting = async {
            sender.send(&Request::Hello(GuardianHello { protocol: PROTOCOL, epoch })).await?;
            receiver.receive().await
        };
        match timeout(PATIENCE, greeting).await {
            Ok(Ok(Some(Event::Hello(keeper)))) if keeper.protocol == PROTOCOL => {
                Ok(Some(Self { keeper, process, sender, receiver }))
            }
            Ok(Ok(Some(_))) => Err(fault(format!("the keeper speaks another protocol than {PROTOCOL}"))),
            Ok(Ok(None)) => Err(fault(format!("the keeper turned epoch {epoch} away"))
                .hint("A newer guardian uses this state directory.")),
            Ok(Err(err)) => Err(err),
            Err(_) => Err(fault("the keeper does not answer")),
        }
    }

    /// Who answered.
    pub fn keeper(&self) -> &KeeperHello {
        &self.keeper
    }

    /// Its process.
    pub fn process(&self) -> &KeeperProcess {
        &self.process
    }

    /// Sends a request; see [`KeeperSender::send`].
    pub async fn send(&mut self, request: &Request) -> Result<()> {
        self.sender.send(request).await
    }

    /// Waits for an event; see [`KeeperReceiver::receive`].
    pub async fn receive(&mut self) -> Result<Option<Event>> {
        self.receiver.receive().await
    }

    /// Takes the two halves apart, for a task each.
    pub fn split(self) -> (KeeperHello, KeeperSender, KeeperReceiver) {
        (self.keeper, self.sender, self.receiver)
    }
}

impl KeeperSender {
    /// Sends a request. Not cancel safe: a line must not be cut. The keeper always reads, so this waits
    /// for moments only.
    pub async fn send(&mut self, request: &Request) -> Result<()> {
        let mut line =
            serde_json::to_vec(request).map_err(|err| fault("cannot write a request").source(err))?;
        line.push(b'\n');
        if line.len() > MAX_LINE {
            return Err(fault(format!("a request of {} bytes is too long for the keeper", line.len())));
        }
        self.stream.write_all(&line).await.map_err(|err| fault("cannot write to the keeper").source(err))
    }
}

impl KeeperReceiver {
    /// Waits for the next event; none when the keeper has closed the connection. Cancel safe.
    pub async fn receive(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
                let end = self.searched + length;
                let line = self.begin..end;
                (self.begin, self.searched) = (end + 1, end + 1);
                return serde_json::from_slice(&self.buffer[line])
                    .map(Some)
                    .map_err(|err| fault("the keeper wrote an event that cannot be read").source(err));
            }
            self.buffer.drain(..self.begin);
            (self.begin, self.searched) = (0, self.buffer.len());
            if self.searched > MAX_LINE {
                return Err(fault("the keeper wrote an endless line"));
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(err) if err.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(err) => return Err(fault("cannot read from the keeper").source(err)),
            }
        }
    }
}

/// Starts a keeper that detaches itself; returns when it listens.
async fn start_keeper(directory: &StateDirectory, program: &Path, policy: Option<&Path>) -> Result<()> {
    let mut command = Command::new(program);
    // Nothing of the guardian's environment: a database URL has no place in the keeper.
    command
        .arg0("sisyphus")
        .arg("keeper")
        .arg("--detach")
        .arg("--state-dir")
        .arg(directory.path())
        .env_clear();
    if let Some(policy) = policy {
        command.arg("--policy").arg(policy);
    }
    for name in ["PATH", "HOME", "LANG", "TZ", "SISYPHUS_LOG", "SISYPHUS_CGROUP"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(false);
    let output = timeout(PATIENCE, command.output())
        .await
        .map_err(|_| fault(format!("the keeper did not start within {PATIENCE:?}")))?
        .map_err(|err| fault(format!("cannot execute the keeper {program:?}")).source(err))?;
    if output.status.success() || directory.keeper_is_alive()? {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(fault(format!("the keeper did not start ({})", output.status)).source(said.trim().to_owned()))
}

fn is_full(err: &Error) -> bool {
    let cause = std::error::Error::source(err).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::WouldBlock)
}

fn fault(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Failed, message)
}
