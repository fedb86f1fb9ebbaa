//! How two machines come to know each other, and how they know each other again.
//!
//! Both begin with a hello that says which of the two it is, then come the messages of a handshake of Noise. Pairing is
//! XXpsk0: the code is mixed in before the first message, so that whoever does not know it gets no answer at all, and each
//! side learns the other's key, sealed. Talking is IK: the one who comes knows the key of the other and shows its own,
//! sealed; nothing that it asks is in the handshake, and the other waits for a first sealed frame, which a recorded
//! handshake cannot bring. Before a key is known, at most a kilobyte is read, and for ten seconds.

use std::io::ErrorKind;
use std::time::Duration;

use snow::{Builder, HandshakeState};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::channel::Channel;
use super::code::Secret;
use super::folder::Identity;

/// The protocols.
const PAIR: &str = "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s";
const TALK: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";

/// How long a handshake may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a message of a handshake at most.
const MESSAGE: usize = 1024;

/// The longest name of a machine.
const NAME: usize = 64;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Pair,
    Talk,
}

/// The first bytes of a connection: a name, a version, and the purpose.
const fn hello(purpose: Purpose) -> [u8; 6] {
    match purpose {
        Purpose::Pair => *b"weft1p",
        Purpose::Talk => *b"weft1t",
    }
}

/// Why somebody is sent away, as one byte that anybody may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Code = 1,
    TooMany = 2,
    NotPaired = 3,
    Busy = 4,
    Version = 5,
}

impl Refusal {
    fn read(byte: u8) -> Option<Refusal> {
        use Refusal::{Busy, Code, NotPaired, TooMany, Version};
        [Code, TooMany, NotPaired, Busy, Version].into_iter().find(|r| *r as u8 == byte)
    }

    /// What the one who is sent away is told.
    fn line(self) -> &'static str {
        match self {
            Refusal::Code => "the code is wrong, was used or is too old; ask the other machine for a new one",
            Refusal::TooMany => "there were too many tries; wait a minute",
            Refusal::NotPaired => "it does not know this machine, or no longer; pair them again",
            Refusal::Busy => "it has no room for another connection; try again later",
            Refusal::Version => "it speaks another version of the protocol; update both",
        }
    }
}

/// What can be wrong with a handshake, as a line.
pub(crate) type Result<T> = std::result::Result<T, String>;

fn builder<'a>(protocol: &str, own: &'a Identity, hello: &'a [u8]) -> Result<Builder<'a>> {
    let params = protocol.parse().map_err(|e| format!("{protocol}: {e:?}"))?;
    let made = Builder::new(params).local_private_key(&own.private).and_then(|b| b.prologue(hello));
    made.map_err(|e| format!("{protocol}: {e:?}"))
}

/// The public key of a private one.
pub(crate) fn public(private: &[u8; 32]) -> Result<[u8; 32]> {
    use snow::params::DHChoice;
    use snow::resolvers::{CryptoResolver, DefaultResolver};
    let dh = DefaultResolver.resolve_dh(&DHChoice::Curve25519);
    let mut dh = dh.ok_or("Curve25519 is missing")?;
    dh.set(private);
    dh.pubkey().try_into().map_err(|_| "a public key has another length".to_owned())
}

fn gone(e: std::io::Error) -> String {
    match e.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            "it broke the connection off".to_owned()
        }
        _ => e.to_string(),
    }
}

async fn send<S: AsyncWrite + Unpin>(io: &mut S, noise: &mut HandshakeState, payload: &[u8]) -> Result<()> {
    let mut message = [0; MESSAGE];
    let n = noise.write_message(payload, &mut message[2..]).map_err(|e| format!("{e:?}"))?;
    message[..2].copy_from_slice(&(n as u16).to_be_bytes());
    io.write_all(&message[..2 + n]).await.map_err(gone)
}

/// Receives a message; None where it is none of somebody who knows what they should.
async fn receive<S: AsyncRead + Unpin>(io: &mut S, noise: &mut HandshakeState) -> Result<Option<Vec<u8>>> {
    let length = usize::from(io.read_u16().await.map_err(gone)?);
    if length > MESSAGE {
        return Ok(None);
    }
    let (mut message, mut payload) = (vec![0; length], vec![0; MESSAGE]);
    io.read_exact(&mut message).await.map_err(gone)?;
    Ok(noise.read_message(&message, &mut payload).ok().map(|n| {
        payload.truncate(n);
        payload
    }))
}

/// Begins, and hears whether the other goes on.
async fn begin<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    noise: &mut HandshakeState,
    purpose: Purpose,
) -> Result<()> {
    io.write_all(&hello(purpose)).await.map_err(gone)?;
    send(io, noise, &[]).await?;
    match io.read_u8().await.map_err(gone)? {
        0 => Ok(()),
        byte => Err(Refusal::read(byte).map_or("what listens there is no Weft", Refusal::line).to_owned()),
    }
}

async fn in_time<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, what).await.unwrap_or_else(|_| Err("it does not answer in time".into()))
}

fn remote(noise: &HandshakeState) -> Result<[u8; 32]> {
    let key = noise.get_remote_static().and_then(|k| k.try_into().ok());
    key.ok_or_else(|| "the handshake shows no key".to_owned())
}

/// A name that somebody else gave, made fit to be part of a model's.
pub(crate) fn name(given: &[u8]) -> String {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name: String = String::from_utf8_lossy(given).chars().filter(|c| known(*c)).take(NAME).collect();
    if name.is_empty() { "machine".to_owned() } else { name }
}

/// Pairs with the machine at the other end of a connection; its name and key.
///
/// # Errors
/// A line that says why not.
pub(crate) async fn ask_to_pair<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    own: &Identity,
    secret: &Secret,
    own_name: &str,
) -> Result<(String, [u8; 32])> {
    in_time(async move {
        let hello = hello(Purpose::Pair);
        let built = builder(PAIR, own, &hello)?.psk(0, secret).and_then(Builder::build_initiator);
        let mut noise = built.map_err(|e| format!("{e:?}"))?;
        begin(&mut io, &mut noise, Purpose::Pair).await?;
        let Some(given) = receive(&mut io, &mut noise).await? else {
            return Err("what answers there does not know the code; somebody may be in between".to_owned());
        };
        let key = remote(&noise)?;
        if key == own.public {
            return Err("that is this machine itself".to_owned());
        }
        send(&mut io, &mut noise, own_name.as_bytes()).await?;
        let noise = noise.into_transport_mode().map_err(|e| format!("{e:?}"))?;
        // It is known there from here on, and not before.
        let kept = Channel::new(io, noise).receive().await;
        kept.map_err(|_| Refusal::Code.line().to_owned())?;
        Ok((name(&given), key))
    })
    .await
}

/// Opens a channel to a machine whose key is known.
///
/// # Errors
/// A line that says why not.
pub(crate) async fn ask_to_talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    own: &Identity,
    key: &[u8; 32],
) -> Result<Channel<S>> {
    in_time(async move {
        let hello = hello(Purpose::Talk);
        let built = builder(TALK, own, &hello)?.remote_public_key(key).and_then(Builder::build_initiator);
        let mut noise = built.map_err(|e| format!("{e:?}"))?;
        begin(&mut io, &mut noise, Purpose::Talk).await?;
        if receive(&mut io, &mut noise).await?.is_none() {
            return Err("what answers there is not the machine that was paired".to_owned());
        }
        let noise = noise.into_transport_mode().map_err(|e| format!("{e:?}"))?;
        let mut channel = Channel::new(io, noise);
        channel.send(&[]).await.map_err(gone)?;
        Ok(channel)
    })
    .await
}

/// What a server knows, so that it can answer.
pub(crate) trait Host {
    /// The secret of the code that is good now, if one more try may be made.
    fn secret(&self) -> std::result::Result<Secret, Refusal>;
    /// Keeps a machine that knew the code; whether it does, which it does once for a code.
    fn keep(&self, secret: &Secret, key: [u8; 32], name: String) -> bool;
    /// Whether this machine may ask.
    fn knows(&self, key: &[u8; 32]) -> bool;
}

async fn refuse<S: AsyncWrite + Unpin, T>(io: &mut S, refusal: Refusal) -> Result<T> {
    // It may be gone.
    let _ = io.write_all(&[refusal as u8]).await;
    Err(refusal.line().to_owned())
}

/// Tells somebody that there is no room.
pub(crate) async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut io: S) {
    let told = async {
        let _ = refuse::<S, ()>(&mut io, Refusal::Busy).await;
        let _ = io.shutdown().await;
        // What came and was not read would have the system break the connection off, and the byte with it.
        let mut rest = [0; 64];
        while io.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
}

/// Answers whoever comes: a channel and its key for one who is known; None for one who was paired.
///
/// # Errors
/// A line for the log.
pub(crate) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    own: &Identity,
    own_name: &str,
    host: &impl Host,
) -> Result<Option<(Channel<S>, [u8; 32])>> {
    in_time(async move {
        let mut io = io;
        let mut said = [0; 6];
        io.read_exact(&mut said).await.map_err(gone)?;
        if said == hello(Purpose::Pair) {
            return answer_pair(io, own, own_name, host).await.map(|()| None);
        }
        if said == hello(Purpose::Talk) {
            return answer_talk(io, own, host).await.map(Some);
        }
        match said.starts_with(b"weft") {
            true => refuse(&mut io, Refusal::Version).await,
            false => Err("what came is no Weft".to_owned()),
        }
    })
    .await
}

async fn answer_pair<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    own: &Identity,
    own_name: &str,
    host: &impl Host,
) -> Result<()> {
    let secret = match host.secret() {
        Ok(secret) => secret,
        Err(refusal) => return refuse(&mut io, refusal).await,
    };
    let hello = hello(Purpose::Pair);
    let built = builder(PAIR, own, &hello)?.psk(0, &secret).and_then(Builder::build_responder);
    let mut noise = built.map_err(|e| format!("{e:?}"))?;
    if receive(&mut io, &mut noise).await?.is_none() {
        return refuse(&mut io, Refusal::Code).await;
    }
    io.write_all(&[0]).await.map_err(gone)?;
    send(&mut io, &mut noise, own_name.as_bytes()).await?;
    let Some(given) = receive(&mut io, &mut noise).await? else {
        return Err("what came with a code was not what began with it".to_owned());
    };
    let key = remote(&noise)?;
    if key == own.public || !host.keep(&secret, key, name(&given)) {
        return Err("a code came that was used meanwhile".to_owned());
    }
    let noise = noise.into_transport_mode().map_err(|e| format!("{e:?}"))?;
    Channel::new(io, noise).send(&[]).await.map_err(gone)
}

async fn answer_talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    own: &Identity,
    host: &impl Host,
) -> Result<(Channel<S>, [u8; 32])> {
    let hello = hello(Purpose::Talk);
    let built = builder(TALK, own, &hello)?.build_responder();
    let mut noise = built.map_err(|e| format!("{e:?}"))?;
    if receive(&mut io, &mut noise).await?.is_none() {
        return refuse(&mut io, Refusal::NotPaired).await;
    }
    let key = remote(&noise)?;
    if !host.knows(&key) {
        return refuse(&mut io, Refusal::NotPaired).await;
    }
    io.write_all(&[0]).await.map_err(gone)?;
    send(&mut io, &mut noise, &[]).await?;
    let noise = noise.into_transport_mode().map_err(|e| format!("{e:?}"))?;
    let mut channel = Channel::new(io, noise);
    // A handshake that was recorded goes so far and no further.
    let first = channel.receive().await.map_err(|_| "a handshake came that nobody was behind".to_owned())?;
    if first.is_empty() {
        Ok((channel, key))
    } else {
        Err("a channel began otherwise than it does".to_owned())
    }
}
