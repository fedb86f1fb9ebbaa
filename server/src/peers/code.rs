//! Codes that pair two machines: short enough to type, too long to guess, and good for once.
//!
//! A code goes into the handshake as a key that both sides share beforehand. Whoever sees the first message of a handshake
//! can try codes on it at home, without asking again, so a code of six digits would be found in no time. A protocol for
//! short passwords (SPAKE2, CPace) would prevent that, but what there is of them in Rust has not been audited, and a code is
//! copied more often than it is typed. So a code has 80 bits at random instead: to get between two machines somebody must
//! find it within the minutes that it is good for, and after that it is worth nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// Digits and letters that are not taken for each other.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Letters of a code, of five bits each.
const LETTERS: usize = 16;

/// How long a code is good for.
pub(crate) const GOOD_FOR: Duration = Duration::from_secs(600);

/// Tries with any code, by anybody, in a minute at most.
const TRIES: usize = 10;

/// What a code is in a handshake.
pub(crate) type Secret = [u8; 32];

/// A new code, such as `K7QX-3M9F-TA2B-CD4E`.
///
/// # Errors
/// The system gives no random numbers.
pub(crate) fn make() -> Result<String, String> {
    let mut random = [0; LETTERS];
    getrandom::fill(&mut random).map_err(|e| format!("the system gives no random numbers: {e}"))?;
    let mut code = String::new();
    for (i, byte) in random.iter().enumerate() {
        if i > 0 && i % 4 == 0 {
            code.push('-');
        }
        code.push(char::from(ALPHABET[usize::from(byte % 32)]));
    }
    Ok(code)
}

/// What a code that was typed is in a handshake.
///
/// # Errors
/// It is no code.
pub(crate) fn secret(typed: &str) -> Result<Secret, String> {
    let rule = || format!("a code has {LETTERS} letters and digits, such as K7QX-3M9F-TA2B-CD4E");
    let mut letters = String::new();
    for c in typed.trim().chars().filter(|c| *c != '-' && *c != ' ') {
        let c = match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            c => c,
        };
        if !c.is_ascii() || !ALPHABET.contains(&(c as u8)) {
            return Err(rule());
        }
        letters.push(c);
    }
    if letters.len() != LETTERS {
        return Err(rule());
    }
    Ok(Sha256::digest(format!("weft pairing code 1\n{letters}")).into())
}

/// The code that is good now, if there is one, and how often somebody tried.
#[derive(Default)]
pub(crate) struct Door {
    code: Option<(Secret, Instant)>,
    tries: VecDeque<Instant>,
}

impl Door {
    /// Makes a code in place of the one before, good from `now` on.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn open(&mut self, now: Instant) -> Result<String, String> {
        let code = make()?;
        self.code = Some((secret(&code)?, now + GOOD_FOR));
        Ok(code)
    }

    /// Whether there is a code that is good.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.code.is_some_and(|(_, until)| now < until)
    }

    /// Counts a try; whether there may be one.
    pub(crate) fn may_try(&mut self, now: Instant) -> bool {
        while self.tries.front().is_some_and(|t| now.duration_since(*t) > Duration::from_secs(60)) {
            self.tries.pop_front();
        }
        if self.tries.len() >= TRIES {
            return false;
        }
        self.tries.push_back(now);
        true
    }

    /// The code's part in a handshake.
    pub(crate) fn secret(&self, now: Instant) -> Option<Secret> {
        self.code.filter(|(_, until)| now < *until).map(|(secret, _)| secret)
    }

    /// Ends the code; whether it was still this one and good, so that of two who know it one is let in.
    pub(crate) fn use_up(&mut self, secret: &Secret, now: Instant) -> bool {
        let good = self.code.is_some_and(|(known, until)| known == *secret && now < until);
        if good {
            self.code = None;
        }
        good
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Door, GOOD_FOR, TRIES, make, secret};

    #[test]
    fn codes_are_read_as_they_are_typed() {
        let code = make().expect("a code");
        assert_eq!(code.len(), 19);
        assert_ne!(code, make().expect("another"));
        let want = secret(&code).expect("a code");
        assert_eq!(secret(&code.to_lowercase()), Ok(want));
        assert_eq!(secret(&format!(" {} ", code.replace('-', " "))), Ok(want));
        assert_eq!(secret("O0O0-iIlL-0000-1111"), secret("0000-1111-0000-1111"));
        for wrong in ["", "1234", "K7QX-3M9F-TA2B-CD4", "K7QX-3M9F-TA2B-CD4EE", "K7QX-3M9F-TA2B-CD4U", "ä"] {
            assert!(secret(wrong).is_err_and(|e| e.contains("16 letters")), "{wrong}");
        }
    }

    #[test]
    fn a_code_is_good_once_and_for_a_while() {
        let (mut door, now) = (Door::default(), Instant::now());
        assert!(!door.is_open(now) && door.secret(now).is_none());
        let first = secret(&door.open(now).expect("a code")).expect("a secret");
        assert_eq!(door.secret(now), Some(first));
        assert!(door.secret(now + GOOD_FOR).is_none() && !door.use_up(&first, now + GOOD_FOR));
        assert!(!door.use_up(&[0; 32], now) && door.is_open(now));
        assert!(door.use_up(&first, now) && !door.use_up(&first, now) && !door.is_open(now));
    }

    #[test]
    fn tries_are_counted() {
        let (mut door, now) = (Door::default(), Instant::now());
        assert!((0..TRIES).all(|_| door.may_try(now)) && !door.may_try(now));
        assert!(!door.may_try(now + Duration::from_secs(59)));
        assert!(door.may_try(now + Duration::from_secs(61)));
    }
}
