//! The device rules of a container as a program for the kernel: the allow list, its instructions (eBPF),
//! and the ELF object that a loader takes. Nothing here talks to the kernel, so every rule can be tested.

use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

/// Name of the program in its object.
pub const NAME: &str = "devices";
/// The section name that tells a loader what kind of program it is.
const SECTION: &[u8] = b"cgroup/dev";

/// Kinds and kinds of access as the kernel numbers them (`BPF_DEVCG_*` in `linux/bpf.h`).
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ALL: i32 = MAKE | READ | WRITE;

/// Devices that a container may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// `BLOCK` or `CHARACTER`.
    kind: i32,
    /// Number of the driver; none for every one.
    major: Option<i32>,
    /// Number of the device of that driver; none for every one.
    minor: Option<i32>,
    /// The access that is allowed.
    access: i32,
}

const fn character(major: i32, minor: Option<i32>) -> Rule {
    Rule { kind: CHARACTER, major: Some(major), minor, access: ALL }
}

/// The same list that `libcontainer` writes into cgroups of version 1: any node may be made, as a build
/// unpacks images that have some, and only these may be opened.
pub const ALLOWED: [Rule; 12] = [
    Rule { kind: CHARACTER, major: None, minor: None, access: MAKE },
    Rule { kind: BLOCK, major: None, minor: None, access: MAKE },
    // null, zero, full, random, urandom
    character(1, Some(3)),
    character(1, Some(5)),
    character(1, Some(7)),
    character(1, Some(8)),
    character(1, Some(9)),
    // tty, console, ptmx
    character(5, Some(0)),
    character(5, Some(1)),
    character(5, Some(2)),
    // Terminals.
    character(136, None),
    // net/tun
    character(10, Some(200)),
];

/// Whether that character device is one that says or does nothing about the machine, so that every container
/// may have it even where no rules hold: null, zero, full, random, urandom, and its own terminal.
pub fn is_harmless(major: u32, minor: u32) -> bool {
    matches!((major, minor), (1, 3 | 5 | 7 | 8 | 9) | (5, 0))
}

/// One instruction, `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: i32,
}

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb7;
const JUMP_IF_NOT: u8 = 0x55;
const JUMP_IF_NOT_SAME: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// Registers: the answer, the context (later a scratch), and the four parts of the question.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn register(code: u8, to: u8, from: u8, offset: i16) -> Instruction {
    Instruction { code, to, from, offset, value: 0 }
}

fn number(code: u8, to: u8, value: i32) -> Instruction {
    Instruction { code, to, from: 0, offset: 0, value }
}

/// The instructions that answer 1 for what a rule allows and 0 for all else. The context is
/// `struct bpf_cgroup_dev_ctx`: access in the upper half of the first word and kind in the lower one,
/// then major and minor number.
pub fn instructions(rules: &[Rule]) -> Vec<Instruction> {
    let mut all = vec![
        register(LOAD_WORD, KIND, CONTEXT, 0),
        number(AND, KIND, 0xffff),
        register(LOAD_WORD, ACCESS, CONTEXT, 0),
        number(SHIFT_RIGHT, ACCESS, 16),
        register(LOAD_WORD, MAJOR, CONTEXT, 4),
        register(LOAD_WORD, MINOR, CONTEXT, 8),
    ];
    rules.iter().for_each(|rule| all.extend(check(rule)));
    all.extend(answer(0));
    all
}

/// One rule: allows, or goes on behind itself.
fn check(rule: &Rule) -> Vec<Instruction> {
    let mut all = vec![number(JUMP_IF_NOT, KIND, rule.kind)];
    if rule.access != ALL {
        // Everything that is asked for must be allowed, not a part of it.
        all.push(register(COPY, CONTEXT, ACCESS, 0));
        all.push(number(AND, CONTEXT, rule.access));
        all.push(register(JUMP_IF_NOT_SAME, CONTEXT, ACCESS, 0));
    }
    for (asked, wanted) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        all.extend(wanted.map(|wanted| number(JUMP_IF_NOT, asked, wanted)));
    }
    all.extend(answer(1));
    // A jump counts from the instruction behind it.
    for (rest, instruction) in (0_i16..).zip(all.iter_mut().rev()) {
        if matches!(instruction.code, JUMP_IF_NOT | JUMP_IF_NOT_SAME) {
            instruction.offset = rest;
        }
    }
    all
}

fn answer(value: i32) -> [Instruction; 2] {
    [number(SET, ANSWER, value), number(EXIT, 0, 0)]
}

/// The ELF object with the program.
///
/// # Errors
/// The reason why the library cannot write it.
pub fn object(instructions: &[Instruction]) -> object::write::Result<Vec<u8>> {
    let code: Vec<u8> = instructions.iter().flat_map(encode).collect();
    let order = if cfg!(target_endian = "little") { Endianness::Little } else { Endianness::Big };
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, order);
    let section = object.add_section(Vec::new(), SECTION.to_vec(), SectionKind::Text);
    let symbol = object.add_symbol(Symbol {
        name: NAME.as_bytes().to_vec(),
        value: 0,
        size: 0,
        kind: SymbolKind::Text,
        scope: SymbolScope::Linkage,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
    object.add_symbol_data(symbol, section, &code, 8);
    object.write()
}

fn encode(instruction: &Instruction) -> [u8; 8] {
    let Instruction { code, to, from, offset, value } = *instruction;
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    let ([o, p], [a, b, c, d]) = (offset.to_ne_bytes(), value.to_ne_bytes());
    [code, registers, o, p, a, b, c, d]
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::indexing_slicing,
        clippy::panic,
        reason = "a test ends where something is not as it should be"
    )]

    use super::*;

    /// Runs the instructions as the kernel would.
    fn run(code: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> i64 {
        let context = [i64::from(access << 16 | kind), i64::from(major), i64::from(minor)];
        let mut registers = [0_i64; 6];
        let mut at = 0_usize;
        loop {
            let Instruction { code, to, from, offset, value } = code[at];
            let (to, value) = (usize::from(to), i64::from(value));
            let (from, offset) = (registers[usize::from(from)], usize::try_from(offset).unwrap());
            at += 1;
            match code {
                LOAD_WORD => registers[to] = context[offset / 4],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                COPY => registers[to] = from,
                SET => registers[to] = value,
                JUMP_IF_NOT if registers[to] != value => at += offset,
                JUMP_IF_NOT_SAME if registers[to] != from => at += offset,
                JUMP_IF_NOT | JUMP_IF_NOT_SAME => {}
                EXIT => return registers[0],
                other => panic!("{other:#x} is no instruction of ours"),
            }
        }
    }

    fn allowed(kind: i32, access: i32, major: i32, minor: i32) -> bool {
        run(&instructions(&ALLOWED), kind, access, major, minor) == 1
    }

    #[test]
    fn the_usual_devices_can_be_used() {
        for minor in [3, 5, 7, 8, 9] {
            assert!(allowed(CHARACTER, READ | WRITE, 1, minor), "1:{minor}");
        }
        for minor in [0, 1, 2] {
            assert!(allowed(CHARACTER, ALL, 5, minor), "5:{minor}");
        }
        assert!(allowed(CHARACTER, READ | WRITE, 136, 0) && allowed(CHARACTER, READ, 136, 4711));
        assert!(allowed(CHARACTER, READ | WRITE, 10, 200));
    }

    #[test]
    fn any_node_can_be_made_and_no_other_one_opened() {
        assert!(allowed(BLOCK, MAKE, 8, 0) && allowed(CHARACTER, MAKE, 1, 1));
        for access in [READ, WRITE, READ | WRITE, MAKE | READ, ALL] {
            // A disk, the machine's memory, its kernel log, and a block device numbered as /dev/null.
            for (kind, major, minor) in [(BLOCK, 8, 0), (CHARACTER, 1, 1), (CHARACTER, 1, 11), (BLOCK, 1, 3)]
            {
                assert!(!allowed(kind, access, major, minor), "{kind} {major}:{minor} {access}");
            }
        }
        assert!(!allowed(CHARACTER, READ, 10, 201) && !allowed(CHARACTER, READ, 137, 0));
    }

    #[test]
    fn without_a_rule_nothing_is_allowed() {
        let none = instructions(&[]);
        assert_eq!(run(&none, CHARACTER, READ, 1, 3), 0);
    }

    #[test]
    fn the_object_holds_the_program_alone() {
        let code = instructions(&ALLOWED);
        let object = object(&code).unwrap();
        assert!(object.starts_with(b"\x7fELF"));
        let bytes: Vec<u8> = code.iter().flat_map(encode).collect();
        assert!(object.windows(bytes.len()).any(|window| window == bytes));
        assert_eq!(encode(&register(LOAD_WORD, MAJOR, CONTEXT, 4)), [0x61, 0x14, 4, 0, 0, 0, 0, 0]);
    }
}
