//! The memory of a call. An instance answers once and is gone with all it held, so memory is given
//! out one piece after the other: less code to load and less to do than a real allocator, which
//! would prepare for a future that no policy has.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const PAGE: usize = 65536;
/// Growing costs a call of the host: more than one page at a time.
const STEP: usize = 4;

unsafe extern "C" {
    /// Where the linker has put the end of all data.
    static __heap_base: u8;
}

/// The allocator. The last piece can grow, shrink and be given back; the others stay.
pub struct Arena;

/// The next free address; 0 before the first piece.
static NEXT: AtomicUsize = AtomicUsize::new(0);

fn next() -> usize {
    match NEXT.load(Relaxed) {
        0 => &raw const __heap_base as usize,
        next => next,
    }
}

/// Takes the memory up to `end`, and asks for more where there is less.
fn take(end: usize) -> bool {
    let have = core::arch::wasm32::memory_size(0);
    let need = end.div_ceil(PAGE);
    if need > have {
        let more = need - have;
        let grown = [more.max(STEP), more]
            .into_iter()
            .any(|pages| core::arch::wasm32::memory_grow(0, pages) != usize::MAX);
        if !grown {
            return false;
        }
    }
    NEXT.store(end, Relaxed);
    true
}

// Sound: pieces never overlap, since each begins at or above the end of the one before, and only the
// last one is given back. There is one thread.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let at = next().next_multiple_of(layout.align());
        match at.checked_add(layout.size()) {
            Some(end) if take(end) => at as *mut u8,
            _ => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        if piece as usize + layout.size() == next() {
            NEXT.store(piece as usize, Relaxed);
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let at = piece as usize;
        if at + layout.size() == next() {
            return match at.checked_add(size) {
                Some(end) if take(end) => piece,
                _ => core::ptr::null_mut(),
            };
        }
        if size <= layout.size() {
            return piece;
        }
        // Sound: the alignment was valid for the piece, and the two do not overlap.
        unsafe {
            let made = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !made.is_null() {
                core::ptr::copy_nonoverlapping(piece, made, layout.size());
            }
            made
        }
    }
}
