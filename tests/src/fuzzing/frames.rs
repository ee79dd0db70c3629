//! WebSocket frames of a client, read as plainly as RFC 6455 has them: one after the other, each rule
//! where it stands. It knows all bytes from the beginning, and is as slow as that.

use super::inflate::inflate;

/// What was agreed on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    /// Texts instead of binary messages.
    pub texts: bool,
    /// Messages may be compressed.
    pub may_be_compressed: bool,
    /// Bytes of a message that has to be whole: a text, and what is compressed.
    pub limit: usize,
    /// Times the bytes of a compressed message that it may become.
    pub expansion: usize,
}

/// How it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// It does not.
    #[default]
    Open,
    /// By a Close.
    Closed,
    /// A rule is broken; the close code that says so.
    Refused(u16),
}

/// What all frames together say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// What binary messages carry, of one that is not compressed as far as it is there.
    pub data: Vec<u8>,
    /// Whole texts.
    pub texts: Vec<Vec<u8>>,
    /// Payloads of Pings.
    pub pings: Vec<Vec<u8>>,
    pub end: End,
}

/// RFC 6455 §7.4.1.
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// See the module.
pub(super) fn plainly(bytes: &[u8], terms: Terms) -> Said {
    let mut said = Said::default();
    said.end = read(bytes, terms, &mut said).map_or_else(End::Refused, |closed| match closed {
        true => End::Closed,
        false => End::Open,
    });
    said
}

/// A message that has to be whole.
#[derive(Default)]
struct Whole {
    bytes: Vec<u8>,
    is_compressed: bool,
}

/// Whether it was closed; the error is a close code.
fn read(bytes: &[u8], terms: Terms, said: &mut Said) -> Result<bool, u16> {
    let mut in_message = false;
    let mut whole: Option<Whole> = None;
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        let is_control = opcode >= 8;
        let is_compressed = first & 0x40 != 0;
        // §5.2 and RFC 7692 §6: what no extension was agreed on for, and only in front of a message.
        let is_reserved = first & 0x30 != 0 || (is_compressed && !terms.may_be_compressed);
        if is_reserved || (is_compressed && !matches!(opcode, TEXT | BINARY)) {
            return Err(PROTOCOL_ERROR);
        }
        // [MQTT-6.0.0-1], and the other way round.
        if opcode == if terms.texts { BINARY } else { TEXT } {
            return Err(UNSUPPORTED);
        }
        // §5.4, §5.5.
        let is_sound = matches!(opcode, 0 | TEXT | BINARY | 8 | 9 | 10)
            && (fin || !is_control)
            && (opcode != 0 || in_message)
            && (!matches!(opcode, TEXT | BINARY) || !in_message);
        if !is_sound {
            return Err(PROTOCOL_ERROR);
        }
        let Some((length, mask, after)) = length_and_mask(is_control, after)? else {
            break;
        };
        if !is_control {
            if opcode != 0 && (terms.texts || is_compressed) {
                whole = Some(Whole {
                    bytes: Vec::new(),
                    is_compressed,
                });
            }
            let is_too_big = |whole: &Whole| length > (terms.limit - whole.bytes.len()) as u64;
            if whole.as_ref().is_some_and(is_too_big) {
                return Err(TOO_BIG);
            }
        }
        let here = usize::try_from(length).unwrap_or(usize::MAX);
        let (payload, after) = after.split_at(here.min(after.len()));
        let is_there = payload.len() as u64 == length;
        let payload = payload.iter().zip(mask.iter().cycle());
        let payload: Vec<u8> = payload.map(|(byte, mask)| byte ^ mask).collect();
        match (opcode, &mut whole) {
            (0..=2, None) => said.data.extend(payload),
            _ if !is_there => break,
            (0..=2, Some(whole)) => whole.bytes.extend(payload),
            (9, _) => said.pings.push(payload),
            (8, _) if may_close(&payload) => return Ok(true),
            (8, _) => return Err(PROTOCOL_ERROR),
            _ => {}
        }
        if !is_control && is_there {
            in_message = !fin;
            if fin && let Some(whole) = whole.take() {
                said.take(whole, terms)?;
            }
        }
        rest = after;
    }
    Ok(false)
}

/// Length, mask and what comes after them, if they are there (§5.1, §5.2).
#[expect(clippy::type_complexity, reason = "three things of one header")]
fn length_and_mask(is_control: bool, bytes: &[u8]) -> Result<Option<(u64, [u8; 4], &[u8])>, u16> {
    let Some((&second, after)) = bytes.split_first() else {
        return Ok(None);
    };
    if second & 0x80 == 0 {
        return Err(PROTOCOL_ERROR);
    }
    let short = second & 0x7F;
    let length_bytes = match short {
        126 | 127 if is_control => return Err(PROTOCOL_ERROR),
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some((length, after)) = after.split_at_checked(length_bytes) else {
        return Ok(None);
    };
    let length = length
        .iter()
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let length = match length_bytes {
        0 => u64::from(short),
        // The shortest form.
        2 if length < 126 => return Err(PROTOCOL_ERROR),
        8 if length < 65_536 || length >> 63 != 0 => return Err(PROTOCOL_ERROR),
        _ => length,
    };
    let mask = after.split_first_chunk::<4>();
    Ok(mask.map(|(mask, after)| (length, *mask, after)))
}

impl Said {
    /// A message is whole.
    fn take(&mut self, whole: Whole, terms: Terms) -> Result<(), u16> {
        let message = if whole.is_compressed {
            // A few bytes may always become a few kilobytes.
            let expanded = (whole.bytes.len() * terms.expansion).max(4096);
            inflate(whole.bytes, terms.limit.min(expanded)).ok_or(INVALID_DATA)?
        } else {
            whole.bytes
        };
        if !terms.texts {
            self.data.extend(message);
        } else if std::str::from_utf8(&message).is_ok() {
            self.texts.push(message);
        } else {
            return Err(INVALID_DATA);
        }
        Ok(())
    }
}

/// §5.5.1, §7.4.
fn may_close(payload: &[u8]) -> bool {
    match payload.split_first_chunk::<2>() {
        None => payload.is_empty(),
        Some((code, reason)) => {
            let code = u16::from_be_bytes(*code);
            let is_defined = (1000..=1014).contains(&code) && !matches!(code, 1004..=1006);
            (is_defined || (3000..5000).contains(&code)) && std::str::from_utf8(reason).is_ok()
        }
    }
}
