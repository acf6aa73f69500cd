//! Who calls whom in a loaded program, from the instructions as the kernel keeps them.
//!
//! The verifier prints the stack of each subprogram by itself (`stack depth 160+8+96`); what counts against the
//! limit of 512 bytes is the deepest *chain* of calls. `BPF_OBJ_GET_INFO_BY_FD` gives the translated instructions and
//! where each subprogram begins, in the verifier's order. Calls are found as `jit_subprogs` in
//! `kernel/bpf/verifier.c` leaves them: a pseudo call carries the callee's distance in `off` (its `imm` is blanked for
//! processes without CAP_SYSLOG), a pseudo function (a `bpf_loop` callback) in `imm`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::verified::FiguresError;

type Result<T> = std::result::Result<T, FiguresError>;

/// `BPF_OBJ_GET_INFO_BY_FD` of `enum bpf_cmd`.
const GET_INFO: libc::c_long = 15;
/// `struct bpf_prog_info` as eight-byte words, with room for later kernels. Field positions are ABI.
type ProgInfo = [u64; 32];
const XLATED_LENGTH: usize = 20 / 4;
const XLATED: usize = 32 / 8;
const FUNC_INFO_RECORD: usize = 132 / 4;
const FUNC_INFO: usize = 136 / 8;
const FUNC_INFO_COUNT: usize = 144 / 4;

/// A four-byte field by its index; fields lie in memory order, which on a little-endian machine is low half first.
fn half(info: &ProgInfo, index: usize) -> Result<usize> {
    let [a, b, c, d, e, f, g, h] = info[index / 2].to_ne_bytes();
    let bytes = if index.is_multiple_of(2) { [a, b, c, d] } else { [e, f, g, h] };
    Ok(u32::from_ne_bytes(bytes) as usize)
}

/// The deepest chain of calls, given each subprogram's own stack in bytes. Subprograms that the verifier found dead
/// are in its log and not in the program; then nobody can say which is which, and the sum of all must do.
///
/// # Errors
/// The kernel does not tell, or in a form that this does not understand.
pub(crate) fn deepest_chain(program: BorrowedFd<'_>, stacks: &[u64]) -> Result<u64> {
    let (starts, instructions) = dump(program)?;
    if starts.len() != stacks.len() {
        return Ok(stacks.iter().sum());
    }
    let edges = calls(&starts, &instructions)?;
    Ok(depth_from(0, &edges, stacks))
}

/// Start of each subprogram and all instructions.
fn dump(program: BorrowedFd<'_>) -> Result<(Vec<usize>, Vec<[u8; 8]>)> {
    let mut sizes: ProgInfo = [0; 32];
    get_info(program, &mut sizes)?;
    let record = half(&sizes, FUNC_INFO_RECORD)?;
    let mut instructions = vec![[0u8; 8]; half(&sizes, XLATED_LENGTH)? / 8];
    let mut functions = vec![0u8; record * half(&sizes, FUNC_INFO_COUNT)?];
    // Only what is asked for: every other pointer and length stays zero.
    let mut info: ProgInfo = [0; 32];
    info[XLATED_LENGTH / 2] = sizes[XLATED_LENGTH / 2] & word(0, u32::MAX);
    info[XLATED] = address(instructions.as_mut_ptr().cast());
    info[FUNC_INFO_RECORD / 2] = sizes[FUNC_INFO_RECORD / 2] & word(0, u32::MAX);
    info[FUNC_INFO] = address(functions.as_mut_ptr());
    info[FUNC_INFO_COUNT / 2] = sizes[FUNC_INFO_COUNT / 2] & word(u32::MAX, 0);
    get_info(program, &mut info)?;
    let starts = functions.chunks_exact(record.max(1)).map(|of| {
        let offset = of.first_chunk().ok_or(FiguresError::Layout("short func_info record"))?;
        Ok(u32::from_ne_bytes(*offset) as usize)
    });
    Ok((starts.collect::<Result<_>>()?, instructions))
}

/// Two four-byte fields as one word.
fn word(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

fn address(of: *mut u8) -> u64 {
    of.expose_provenance() as u64
}

fn get_info(program: BorrowedFd<'_>, info: &mut ProgInfo) -> Result<()> {
    let length = size_of::<ProgInfo>() as u32;
    let descriptor = program.as_raw_fd().unsigned_abs();
    let mut attributes = [word(descriptor, length), address(info.as_mut_ptr().cast())];
    // SAFETY: the attributes are those of BPF_OBJ_GET_INFO_BY_FD; every buffer in them is alive and as long as it says.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, GET_INFO, attributes.as_mut_ptr(), size_of_val(&attributes)) };
    if result == 0 { Ok(()) } else { Err(FiguresError::Info(io::Error::last_os_error())) }
}

/// For each subprogram, which ones it calls or hands to `bpf_loop`.
fn calls(starts: &[usize], instructions: &[[u8; 8]]) -> Result<Vec<Vec<usize>>> {
    const CALL: u8 = 0x85;
    const PSEUDO_CALL: u8 = 1;
    const LOAD_64: u8 = 0x18;
    const PSEUDO_FUNC: u8 = 4;
    let containing = |at: usize| starts.partition_point(|start| *start <= at).saturating_sub(1);
    let mut edges = vec![Vec::new(); starts.len()];
    let mut at = 0;
    while let Some([code, registers, off0, off1, immediate @ ..]) = instructions.get(at) {
        let distance = match (*code, registers >> 4) {
            (CALL, PSEUDO_CALL) => Some(i64::from(i16::from_ne_bytes([*off0, *off1]))),
            (LOAD_64, PSEUDO_FUNC) => Some(i64::from(i32::from_ne_bytes(*immediate))),
            _ => None,
        };
        if let Some(distance) = distance {
            let callee = usize::try_from(at as i64 + distance + 1).ok().filter(|to| starts.contains(to));
            let callee = callee.ok_or(FiguresError::Layout("a call to where no subprogram begins"))?;
            let caller = containing(at);
            edges[caller].push(containing(callee));
        }
        at += if *code == LOAD_64 { 2 } else { 1 };
    }
    Ok(edges)
}

/// Ends, because the verifier refuses recursion.
fn depth_from(subprogram: usize, edges: &[Vec<usize>], stacks: &[u64]) -> u64 {
    let below = edges[subprogram].iter().map(|callee| depth_from(*callee, edges, stacks)).max();
    stacks[subprogram] + below.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{calls, depth_from};

    fn instruction(code: u8, source: u8, off: i16, immediate: i32) -> [u8; 8] {
        let ([off0, off1], [a, b, c, d]) = (off.to_ne_bytes(), immediate.to_ne_bytes());
        [code, source << 4, off0, off1, a, b, c, d]
    }

    #[test]
    fn the_deepest_chain_counts_not_the_sum() {
        let exit = instruction(0x95, 0, 0, 0);
        let program = [
            instruction(0x85, 1, 4, 0),  // 0, main: calls 0 + 4 + 1 = 5, subprogram 1
            instruction(0x18, 4, 0, 5),  // 1: callback at 1 + 5 + 1 = 7, subprogram 2
            instruction(0, 0, 0, 0),     // 2: second half
            instruction(0x85, 0, 0, 42), // 3: a helper, no subprogram
            exit,                        // 4
            instruction(0x85, 1, 1, 0),  // 5, subprogram 1: calls 7, subprogram 2
            exit,                        // 6
            exit,                        // 7, subprogram 2
        ];
        let edges = calls(&[0, 5, 7], &program).unwrap();
        assert_eq!(edges, [vec![1, 2], vec![2], vec![]]);
        assert_eq!(depth_from(0, &edges, &[100, 20, 3]), 123);
        assert_eq!(depth_from(0, &[vec![1, 2], vec![], vec![]], &[100, 20, 30]), 130);
    }
}
