//! Packets from a seed: made field by field as the specification says, but with a wrong choice now
//! and then, and with damaged bytes.

use tidings_core::codec::Version;

/// A small generator, so that a failure has a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

fn text(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).expect("short");
    [&len.to_be_bytes()[..], text.as_bytes()].concat()
}

/// A text that is a topic, a filter, both or neither.
fn any_text(random: &mut Random) -> Vec<u8> {
    let pieces = [
        "a", "a", "a", "b", "a/b", "/", "/", "+", "#", "$share/", "g/", "é", "\0", "$SYS",
    ];
    let count = random.below(5);
    text(&(0..count).map(|_| random.of(&pieces)).collect::<String>())
}

/// The type of a property's value.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Short,
    Long,
    Variable,
    Text,
    Data,
    Pair,
}

const PROPERTIES: &[(u8, Kind)] = &[
    (0x01, Kind::Bool),
    (0x02, Kind::Long),
    (0x03, Kind::Text),
    (0x08, Kind::Text),
    (0x09, Kind::Data),
    (0x0B, Kind::Variable),
    (0x11, Kind::Long),
    (0x12, Kind::Text),
    (0x13, Kind::Short),
    (0x15, Kind::Text),
    (0x16, Kind::Data),
    (0x17, Kind::Bool),
    (0x18, Kind::Long),
    (0x19, Kind::Bool),
    (0x1A, Kind::Text),
    (0x1C, Kind::Text),
    (0x1F, Kind::Text),
    (0x21, Kind::Short),
    (0x22, Kind::Short),
    (0x23, Kind::Short),
    (0x24, Kind::Bool),
    (0x25, Kind::Bool),
    (0x26, Kind::Pair),
    (0x27, Kind::Long),
    (0x28, Kind::Bool),
    (0x29, Kind::Bool),
    (0x2A, Kind::Bool),
];

/// Stands for Will Properties where packet types stand for their properties.
const WILL: u8 = 0;

fn properties_of(place: u8) -> &'static [u8] {
    match place {
        WILL => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
        1 => &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
        2 => &[
            0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27,
            0x28, 0x29, 0x2A,
        ],
        3 => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26],
        8 => &[0x0B, 0x26],
        10 => &[0x26],
        14 => &[0x11, 0x1C, 0x1F, 0x26],
        15 => &[0x15, 0x16, 0x1F, 0x26],
        _ => &[0x1F, 0x26],
    }
}

fn any_value(random: &mut Random, kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Bool => vec![random.of(&[0, 1, 1, 2])],
        Kind::Short => vec![0, random.of(&[0, 1, 2])],
        Kind::Long => vec![0, 0, 0, random.of(&[0, 1, 2])],
        Kind::Variable => {
            let choices: [&[u8]; 5] = [
                &[0],
                &[1],
                &[0x80, 1],
                &[0x80, 0],
                &[0xFF, 0xFF, 0xFF, 0x7F],
            ];
            random.of(&choices).to_vec()
        }
        Kind::Text => any_text(random),
        Kind::Data => vec![0, 2, 0xFF, 0],
        Kind::Pair => [any_text(random), any_text(random)].concat(),
    }
}

/// Property Length and up to three properties, nearly all of them allowed in `place`.
fn any_properties(random: &mut Random, version: Version, place: u8) -> Vec<u8> {
    if version != Version::V5 {
        return Vec::new();
    }
    let mut section = Vec::new();
    for _ in 0..random.of(&[0, 0, 1, 1, 2, 3]) {
        let id = if random.one_in(12) {
            random.of(PROPERTIES).0
        } else {
            random.of(properties_of(place))
        };
        let (_, kind) = PROPERTIES
            .iter()
            .find(|(known, _)| *known == id)
            .expect("it is listed");
        let value = any_value(random, *kind);
        // One byte must do for the length of the section, and of the packet.
        if section.len() + value.len() > 50 {
            break;
        }
        section.push(id);
        section.extend(value);
    }
    section.insert(0, u8::try_from(section.len()).expect("bounded above"));
    section
}

fn any_packet_id(random: &mut Random) -> Vec<u8> {
    vec![0, u8::from(!random.one_in(20))]
}

fn any_reason(random: &mut Random) -> u8 {
    const REASONS: &[u8] = &[
        0x01, 0x02, 0x04, 0x10, 0x11, 0x18, 0x19, 0x80, 0x83, 0x87, 0x8B, 0x8C, 0x8E, 0x91, 0x92,
        0x97, 0x9F, 0xA2,
    ];
    if random.one_in(3) {
        0
    } else {
        random.of(REASONS)
    }
}

fn any_reasons(random: &mut Random) -> Vec<u8> {
    (0..random.below(3)).map(|_| any_reason(random)).collect()
}

fn any_connect(random: &mut Random, version: Version) -> Vec<u8> {
    let any_flags = random.byte();
    let usual = [
        0x02, 0x00, 0x06, 0xC2, 0x82, 0x42, 0xC6, 0x2E, 0x36, 0x3E, any_flags,
    ];
    let flags = random.of(&usual);
    let mut body = text(if version == Version::V31 {
        "MQIsdp"
    } else {
        "MQTT"
    });
    body.extend([version.level(), flags, 0, 60]);
    body.extend(any_properties(random, version, 1));
    body.extend(text(random.of(&["", "a", "client"])));
    if flags & 0x04 != 0 {
        body.extend(any_properties(random, version, WILL));
        body.extend(any_text(random));
        body.extend([0, 1, 0xFF]);
    }
    if flags & 0x80 != 0 && !random.one_in(20) {
        body.extend(text("u"));
    }
    if flags & 0x40 != 0 {
        body.extend([0, 1, 0xFF]);
    }
    body
}

fn any_subscribe(random: &mut Random, version: Version) -> Vec<u8> {
    let mut body = any_packet_id(random);
    body.extend(any_properties(random, version, 8));
    for _ in 0..random.below(3) {
        body.extend(any_text(random));
        let valid: &[u8] = match version {
            Version::V5 => &[0, 1, 2, 0x04, 0x08, 0x10, 0x20, 0x2D],
            _ => &[0, 1, 2],
        };
        let options = if random.one_in(3) {
            random.byte()
        } else {
            random.of(valid)
        };
        body.push(options);
    }
    body
}

/// A code and properties, of which the end may be missing.
fn any_outcome(random: &mut Random, version: Version, place: u8) -> Vec<u8> {
    let mut body = Vec::new();
    let fields = if version == Version::V5 {
        random.below(3)
    } else {
        0
    };
    if fields > 0 {
        body.push(any_reason(random));
    }
    if fields > 1 {
        body.extend(any_properties(random, version, place));
    }
    body
}

fn any_body(random: &mut Random, version: Version, packet_type: u8, flags: u8) -> Vec<u8> {
    let v5 = version == Version::V5;
    match packet_type {
        1 => any_connect(random, version),
        2 => {
            let code = if v5 {
                any_reason(random)
            } else {
                random.below(7) as u8
            };
            let head = vec![random.of(&[0, 0, 1, 2]), code];
            [head, any_properties(random, version, 2)].concat()
        }
        3 => {
            let topic = any_text(random);
            let packet_id = if flags & 0b110 == 0 {
                Vec::new()
            } else {
                any_packet_id(random)
            };
            let payload = random.of(&["", "pay"]).as_bytes().to_vec();
            [
                topic,
                packet_id,
                any_properties(random, version, 3),
                payload,
            ]
            .concat()
        }
        4..=7 => [
            any_packet_id(random),
            any_outcome(random, version, packet_type),
        ]
        .concat(),
        8 => any_subscribe(random, version),
        9 => {
            let head = [any_packet_id(random), any_properties(random, version, 9)].concat();
            [head, any_reasons(random)].concat()
        }
        10 => {
            let mut body = [any_packet_id(random), any_properties(random, version, 10)].concat();
            for _ in 0..random.below(3) {
                body.extend(any_text(random));
            }
            body
        }
        11 => {
            let head = [any_packet_id(random), any_properties(random, version, 11)].concat();
            if v5 {
                [head, any_reasons(random)].concat()
            } else {
                head
            }
        }
        14 | 15 => any_outcome(random, version, packet_type),
        _ => Vec::new(),
    }
}

/// A whole packet; one in four has a byte changed, added or taken away.
pub fn make_packet(random: &mut Random, version: Version) -> Vec<u8> {
    let packet_type = if random.one_in(4) {
        random.of(&[1, 3, 8, 10])
    } else {
        1 + random.below(15) as u8
    };
    let flags = match packet_type {
        3 => random.below(16) as u8,
        _ if random.one_in(20) => random.below(16) as u8,
        6 | 8 | 10 => 0b0010,
        _ => 0,
    };
    let mut body = any_body(random, version, packet_type, flags);
    if random.one_in(4) && !body.is_empty() {
        let at = random.below(body.len());
        match random.below(3) {
            0 => body.push(random.byte()),
            1 => drop(body.pop()),
            _ => body[at] = random.byte(),
        }
    }
    let mut len = body.len();
    let mut bytes = vec![packet_type << 4 | flags];
    while len > 127 {
        bytes.push((len & 0x7F) as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend(body);
    bytes
}
