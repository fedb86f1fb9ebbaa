//! Other machines: how one Weft uses another, over a channel that both sides know each other by.
//!
//! Pairing goes one way. Who has a code of a machine may use that machine from then on, and is kept there as a guest; the
//! machine that gave the code gets nothing by it. What goes through a channel is HTTP, asked of the routes of inference
//! alone, so that streams, cancellation and errors are those of any client.

mod channel;
mod code;
mod folder;
pub(crate) mod forward;
mod handshake;
pub(crate) mod listen;
mod near;
mod reach;
mod relay;

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use folder::{Guest, Machine, Paired};

use crate::guard::Who;
use code::{Door, Secret};
use folder::{Folder, Identity};
use handshake::Refusal;
use reach::{Pool, Reach};
use weft_formats::hex;

/// Where machines listen for each other unless told otherwise.
pub const PORT: u16 = 8484;

/// Machines of each list at most.
const MOST: usize = 64;

/// How long what is known of another machine's models is good, and that it is away: to find that out takes time.
const FRESH: Duration = Duration::from_secs(5);
const AWAY: Duration = Duration::from_secs(15);

/// How long machines are looked for that could be paired with.
const SEARCH: Duration = Duration::from_secs(3);

/// How long a machine may take to say which models it has.
const BRIEF: Duration = Duration::from_secs(2);

/// What another machine said last, or why it did not.
type Said = Result<Vec<Value>, String>;

/// The machines that this one knows, and those that know it.
pub struct Peers {
    folder: Folder,
    name: String,
    fallback: Option<String>,
    identity: Mutex<Option<Identity>>,
    door: Mutex<Door>,
    listener: Mutex<Option<TcpListener>>,
    port: Option<u16>,
    pool: Arc<Pool>,
    announced: Mutex<Option<near::Announcement>>,
    models: Mutex<HashMap<String, (Instant, Said)>>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peers({})", self.name)
    }
}

/// A machine, and what it says now.
pub(crate) struct Status {
    pub(crate) machine: Machine,
    pub(crate) said: Said,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a machine is, of what was typed: a host and perhaps a port.
fn with_port(host: &str) -> Result<String, String> {
    let wrong = || format!("\"{host}\" is no host, such as 192.168.1.4, desk.local:9000 or [fe80::1]:8484");
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|p| p > 0);
    let fits = |name: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.:%".contains(c);
        !name.is_empty() && name.len() <= 255 && name.chars().all(known)
    };
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']').ok_or_else(wrong)?;
            (name, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) })
        }
        None if host.matches(':').count() > 1 => (host, None),
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    if !fits(name) || port.is_some_and(|p| !is_port(p)) {
        return Err(wrong());
    }
    let port = port.map_or_else(|| PORT.to_string(), str::to_owned);
    Ok(if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") })
}

/// A name that none of `taken` is.
fn free<'a>(wanted: &str, taken: impl Iterator<Item = &'a str> + Clone) -> String {
    let is_free = |name: &str| !taken.clone().any(|t| t == name);
    let numbered = (2..).map(|n| format!("{wanted}-{n}"));
    std::iter::once(wanted.to_owned()).chain(numbered).find(|n| is_free(n)).unwrap_or_default()
}

/// What was typed as a code, with the address that stands behind it.
fn typed_code(typed: &str) -> Result<(code::Secret, Option<String>), String> {
    let (code, host) = match typed.trim().split_once('@') {
        Some((code, host)) => (code, Some(with_port(host)?)),
        None => (typed, None),
    };
    Ok((code::secret(code)?, host))
}

/// Whether a text is a code, with an address behind it or without.
///
/// # Errors
/// It is none; the line says what one looks like.
pub fn check_code(typed: &str) -> Result<(), String> {
    typed_code(typed).map(|_| ())
}

impl Peers {
    /// What lies in a folder, which is made when it is needed, for a machine that calls itself so.
    pub fn new(folder: &Path, name: &str) -> Peers {
        Peers {
            folder: Folder::new(folder),
            name: handshake::name(name.as_bytes()),
            fallback: None,
            identity: Mutex::default(),
            door: Mutex::default(),
            listener: Mutex::default(),
            port: None,
            pool: Arc::default(),
            announced: Mutex::default(),
            models: Mutex::default(),
        }
    }

    /// The same, with a model of this machine that answers where another machine is away.
    #[must_use]
    pub fn with_fallback(self, model: Option<String>) -> Peers {
        Peers { fallback: model, ..self }
    }

    /// The same, which looks for machines in its network where it has no address of theirs, or one at which they are no more.
    #[must_use]
    pub fn looking(self) -> Peers {
        Peers { pool: Arc::new(Pool::looking()), ..self }
    }

    /// Says to the network that this machine answers others, as long as this is kept.
    ///
    /// # Errors
    /// It does not, or the system has no way to say it.
    pub fn announce(&self) -> Result<(), String> {
        let port = self.port.ok_or("this machine does not answer others")?;
        *lock(&self.announced) = Some(near::announce(&self.name, &self.identity()?.public, port)?);
        Ok(())
    }

    /// Answers the machines that are paired at this listener, once the server runs.
    ///
    /// # Errors
    /// The key of this machine cannot be read or made.
    pub fn listen(self, listener: TcpListener) -> Result<Peers, String> {
        self.identity()?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        Ok(Peers { listener: Mutex::new(Some(listener)), port: Some(port), ..self })
    }

    /// What this machine calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new code, for one machine and ten minutes. The one before is void.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn open_door(&self) -> Result<String, String> {
        lock(&self.door).open(Instant::now())
    }

    /// The port at which machines are answered, if they are.
    pub(crate) fn listens(&self) -> Option<u16> {
        self.port
    }

    /// Whether there is a code that is good.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.door).is_open(Instant::now())
    }

    /// All that are paired.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn paired(&self) -> Result<Paired, String> {
        self.folder.paired()
    }

    fn identity(&self) -> Result<Identity, String> {
        let mut known = lock(&self.identity);
        if let Some(own) = &*known {
            return Ok(own.clone());
        }
        let own = self.folder.identity()?;
        Ok(known.insert(own).clone())
    }

    /// The machine of this name.
    fn machine(&self, name: &str) -> Option<Machine> {
        self.paired().ok()?.machines.into_iter().find(|m| m.name == name)
    }

    /// A way to a machine.
    fn reach(&self, machine: Machine) -> Result<Reach, String> {
        Ok(Reach { pool: self.pool.clone(), own: self.identity()?, machine })
    }

    /// Pairs with the machine that gave a code, written `CODE@HOST[:PORT]`, or `CODE` alone for one that says in the network
    /// that it is there; under its own name or another one.
    ///
    /// # Errors
    /// A line that says why not.
    pub async fn pair(&self, typed: &str, name: Option<&str>) -> Result<Machine, String> {
        let (secret, host) = typed_code(typed)?;
        if let Some(name) = name.filter(|n| handshake::name(n.as_bytes()) != **n) {
            return Err(format!("\"{name}\" is no name of letters, digits, '-', '_' and '.'"));
        }
        let own = self.identity()?;
        if self.paired()?.machines.len() >= MOST {
            return Err(format!("{MOST} machines are known, which is the most"));
        }
        let addresses = match host {
            Some(address) => vec![address],
            None if self.pool.looks => {
                tokio::task::spawn_blocking(|| near::find(None, SEARCH)).await.unwrap_or_default()
            }
            None => Vec::new(),
        };
        let mut why =
            "no machine of this network says that it can be paired with; give its address as CODE@HOST"
                .to_owned();
        for address in addresses {
            let asked = async {
                let stream = reach::connect(&address).await?;
                handshake::ask_to_pair(stream, &own, &secret, &self.name).await
            };
            match asked.await {
                Ok((given, key)) => return self.keep_machine(name.unwrap_or(&given), address, hex(&key)),
                Err(e) => why = format!("{address}: {e}"),
            }
        }
        Err(why)
    }

    fn keep_machine(&self, name: &str, address: String, key: String) -> Result<Machine, String> {
        self.folder.change(|paired| {
            // Paired once more, it keeps no second name.
            paired.machines.retain(|m| m.key != key);
            let taken = paired.machines.iter().map(|m| m.name.as_str());
            let machine = Machine { name: free(name, taken), address, key };
            paired.machines.push(machine.clone());
            Ok(machine)
        })
    }

    /// The same, for a program that has no runtime.
    ///
    /// # Errors
    /// A line that says why not.
    pub fn pair_now(&self, typed: &str, name: Option<&str>) -> Result<Machine, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| e.to_string())?.block_on(self.pair(typed, name))
    }

    /// Forgets a machine, in both lists; whether it was in one.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn remove(&self, name: &str) -> Result<bool, String> {
        let removed = self.folder.change(|paired| {
            let before = paired.machines.len() + paired.guests.len();
            paired.machines.retain(|m| m.name != name);
            paired.guests.retain(|g| g.name != name);
            Ok(before > paired.machines.len() + paired.guests.len())
        })?;
        lock(&self.models).remove(name);
        Ok(removed)
    }

    /// Each machine, and which models it has, asked again where that is not known well enough.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) async fn status(&self) -> Result<Vec<Status>, String> {
        let machines = self.paired()?.machines;
        let fresh = |m: &Machine| {
            let models = lock(&self.models);
            let (at, said) = models.get(&m.name)?;
            let good = if said.is_ok() { FRESH } else { AWAY };
            (at.elapsed() < good).then(|| said.clone())
        };
        let mut asked = tokio::task::JoinSet::new();
        let mut all: Vec<(Machine, Option<Said>)> =
            machines.into_iter().map(|m| (m.clone(), fresh(&m))).collect();
        for (i, (machine, said)) in all.iter().enumerate() {
            if said.is_none() {
                let request = self.reach(machine.clone())?;
                asked.spawn(async move {
                    let said = tokio::time::timeout(BRIEF, request.models()).await;
                    (i, said.unwrap_or_else(|_| Err("it does not answer in time".into())))
                });
            }
        }
        while let Some(Ok((i, said))) = asked.join_next().await {
            lock(&self.models).insert(all[i].0.name.clone(), (Instant::now(), said.clone()));
            all[i].1 = Some(said);
        }
        let said = |said: Option<Said>| said.unwrap_or_else(|| Err("it was not asked".into()));
        Ok(all.into_iter().map(|(machine, s)| Status { machine, said: said(s) }).collect())
    }

    /// The models of other machines that answer, as the lists show them, named so that it is plain who answers.
    pub(crate) async fn models(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for status in self.status().await.unwrap_or_default() {
            for mut model in status.said.unwrap_or_default() {
                let Some(id) = model["id"].as_str() else { continue };
                model["id"] = format!("{id}@{}", status.machine.name).into();
                model["meta"]["machine"] = status.machine.name.as_str().into();
                all.push(model);
            }
        }
        all
    }
}

impl handshake::Host for Peers {
    fn secret(&self) -> Result<Secret, Refusal> {
        let (mut door, now) = (lock(&self.door), Instant::now());
        if !door.may_try(now) {
            return Err(Refusal::TooMany);
        }
        door.secret(now).ok_or(Refusal::Code)
    }

    fn keep(&self, secret: &Secret, key: [u8; 32], name: String) -> bool {
        let key = hex(&key);
        lock(&self.door).use_up(secret, Instant::now())
            && self
                .folder
                .change(|paired| {
                    paired.guests.retain(|g| g.key != key);
                    if paired.guests.len() >= MOST {
                        return Err(format!("{MOST} machines may ask here, which is the most"));
                    }
                    let name = free(&name, paired.guests.iter().map(|g| g.name.as_str()));
                    paired.guests.push(Guest { name, key });
                    Ok(())
                })
                .is_ok()
    }

    fn knows(&self, key: &[u8; 32]) -> bool {
        let key = hex(key);
        self.paired().is_ok_and(|p| p.guests.iter().any(|g| g.key == key))
    }
}

/// Who asks, where it is the machine of this key.
fn who(key: &[u8; 32]) -> Who {
    let hash = Sha256::digest(key);
    let mut number = [0; 8];
    number.copy_from_slice(&hash[..8]);
    Who::peer(u64::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::{free, with_port};

    #[test]
    fn hosts_are_read_with_and_without_a_port() {
        for (typed, want) in [
            ("desk", "desk:8484"),
            ("desk.local:90", "desk.local:90"),
            ("192.168.1.4", "192.168.1.4:8484"),
            ("[::1]", "[::1]:8484"),
            ("[fe80::1%eth0]:9", "[fe80::1%eth0]:9"),
            ("::1", "[::1]:8484"),
        ] {
            assert_eq!(with_port(typed).as_deref(), Ok(want));
        }
        for wrong in ["", ":80", "a b", "a:0", "a:70000", "a:b", "[::1", "[::1]80", "http://a", "a/b", "a@b"]
        {
            assert!(with_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_machines_of_one_name_have_two() {
        assert_eq!(free("desk", ["laptop"].into_iter()), "desk");
        assert_eq!(free("desk", ["desk", "desk-2"].into_iter()), "desk-3");
    }
}
