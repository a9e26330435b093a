//! Byte strings of any length in one stable memory, each a chain of pages of one size.
//!
//! What a string costs to write, read or free depends on its own length, and on nothing else that is
//! stored. It is known by the number of its first page, which stays as it is when its bytes change.
//! Knows no flow, and keeps no index: its owner makes one from `all`.

use ic_stable_structures::Memory;

/// Marks a memory of this layout, with its version.
const MAGIC: [u8; 4] = *b"AFP\x01";
/// Before the first page: the mark, the first free page, the number of pages.
const HEADER: u64 = 64;
/// Before a page's bytes: the next page of the chain, and in its first page the string's length and one.
const PREFIX: usize = 8;
const WASM_PAGE: u64 = 65_536;

pub(crate) struct Pages<M> {
    memory: M,
    size: usize,
    first_free: u32,
    count: u32,
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

impl<M: Memory> Pages<M> {
    /// Opens a memory, or lays it out. `size` is that of a page, in bytes, and is fixed for its lifetime.
    ///
    /// # Panics
    /// If the memory holds something else, or a later layout.
    pub fn open(memory: M, size: usize) -> Pages<M> {
        let mut pages = Pages { memory, size, first_free: 0, count: 0 };
        if pages.memory.size() == 0 {
            pages.reach(HEADER);
            pages.memory.write(0, &MAGIC);
            pages.note();
        } else {
            let mut header = [0; 12];
            pages.memory.read(0, &mut header);
            assert!(header.starts_with(&MAGIC), "a stable memory has an unknown layout");
            (pages.first_free, pages.count) = (number(&header[4..8]), number(&header[8..]));
        }
        pages
    }

    fn room(&self) -> usize {
        self.size - PREFIX
    }

    fn place(&self, page: u32) -> u64 {
        HEADER + u64::from(page - 1) * self.size as u64
    }

    fn reach(&mut self, end: u64) {
        let have = self.memory.size();
        let need = end.div_ceil(WASM_PAGE);
        if need > have && self.memory.grow(need - have) < 0 {
            panic!("no stable memory left");
        }
    }

    fn note(&self) {
        let numbers = [self.first_free.to_le_bytes(), self.count.to_le_bytes()].concat();
        self.memory.write(MAGIC.len() as u64, &numbers);
    }

    fn next(&self, page: u32) -> u32 {
        let mut next = [0; 4];
        self.memory.read(self.place(page), &mut next);
        number(&next)
    }

    fn take(&mut self) -> u32 {
        if self.first_free != 0 {
            let page = self.first_free;
            self.first_free = self.next(page);
            return page;
        }
        self.count = self.count.checked_add(1).expect("fewer than 2^32 pages");
        self.reach(self.place(self.count) + self.size as u64);
        self.count
    }

    /// Stores a string; its first page.
    pub fn put(&mut self, bytes: &[u8]) -> u32 {
        let first = self.take();
        self.write(first, 0, bytes);
        first
    }

    /// Stores other bytes in the place of a string.
    pub fn replace(&mut self, first: u32, bytes: &[u8]) {
        let rest = self.next(first);
        self.write(first, rest, bytes);
    }

    /// Writes a string from `first` on, into the pages from `rest` on and then into fresh ones.
    fn write(&mut self, first: u32, mut rest: u32, bytes: &[u8]) {
        let mut buffer = Vec::with_capacity(self.size);
        let mut page = first;
        let mut left = bytes;
        let mut length = u32::try_from(bytes.len()).expect("a message's bytes") + 1;
        loop {
            let (now, later) = left.split_at(left.len().min(self.room()));
            let next = match (later.is_empty(), rest) {
                (true, _) => 0,
                (false, 0) => self.take(),
                (false, kept) => {
                    rest = self.next(kept);
                    kept
                }
            };
            buffer.clear();
            buffer.extend_from_slice(&next.to_le_bytes());
            buffer.extend_from_slice(&length.to_le_bytes());
            buffer.extend_from_slice(now);
            self.memory.write(self.place(page), &buffer);
            if next == 0 {
                break;
            }
            (page, left, length) = (next, later, 0);
        }
        if rest != 0 {
            self.free_from(rest);
        }
        self.note();
    }

    /// Forgets a string.
    pub fn free(&mut self, first: u32) {
        self.free_from(first);
        self.note();
    }

    fn free_from(&mut self, mut page: u32) {
        while page != 0 {
            let next = self.next(page);
            let free = [self.first_free.to_le_bytes(), [0; 4]].concat();
            self.memory.write(self.place(page), &free);
            (self.first_free, page) = (page, next);
        }
    }

    /// A string, by its first page.
    pub fn get(&self, first: u32) -> Vec<u8> {
        self.read(first).expect("the first page of a string")
    }

    fn read(&self, first: u32) -> Option<Vec<u8>> {
        let mut buffer = vec![0; self.size];
        self.memory.read(self.place(first), &mut buffer);
        let length = number(&buffer[4..PREFIX]).checked_sub(1)? as usize;
        let mut next = number(&buffer[..4]);
        if length <= self.room() {
            buffer.truncate(PREFIX + length);
            buffer.drain(..PREFIX);
            return Some(buffer);
        }
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&buffer[PREFIX..]);
        while next != 0 {
            let part = (length - bytes.len()).min(self.room());
            let buffer = &mut buffer[..PREFIX + part];
            self.memory.read(self.place(next), buffer);
            bytes.extend_from_slice(&buffer[PREFIX..]);
            next = number(&buffer[..4]);
        }
        Some(bytes)
    }

    /// All strings, with their first pages.
    pub fn all(&self) -> impl Iterator<Item = (u32, Vec<u8>)> + '_ {
        (1..=self.count).filter_map(|page| self.read(page).map(|bytes| (page, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ic_stable_structures::VectorMemory;

    use super::*;

    fn string(seed: u32, length: usize) -> Vec<u8> {
        (0..length).map(|n| (n as u32).wrapping_mul(seed).to_le_bytes()[1]).collect()
    }

    #[test]
    fn strings_of_any_length_come_back_through_writes_changes_and_reopening() {
        let memory = VectorMemory::default();
        let mut pages = Pages::open(memory.clone(), 32);
        let mut kept = BTreeMap::new();
        for n in 0..500_u32 {
            let bytes = string(n, (n as usize * 37) % 200);
            match (n % 5, kept.keys().nth(n as usize % 7).copied()) {
                (3, Some(first)) => {
                    pages.free(first);
                    kept.remove(&first);
                }
                (1, Some(first)) => {
                    pages.replace(first, &bytes);
                    kept.insert(first, bytes);
                }
                _ => {
                    kept.insert(pages.put(&bytes), bytes);
                }
            }
            if n % 50 == 49 {
                pages = Pages::open(memory.clone(), 32);
            }
            for (first, bytes) in &kept {
                assert_eq!(pages.get(*first), *bytes);
            }
        }
        assert_eq!(pages.all().collect::<BTreeMap<_, _>>(), kept);
    }

    #[test]
    fn freed_pages_are_used_again() {
        let mut pages = Pages::open(VectorMemory::default(), 64);
        let first = pages.put(&[7; 1_000]);
        let most = pages.count;
        for n in 0..20 {
            pages.replace(first, &[n; 10]);
            let second = pages.put(&[n; 900]);
            assert_eq!(pages.all().count(), 2);
            pages.free(second);
            pages.replace(first, &[n; 1_000]);
            assert_eq!(pages.all().collect::<Vec<_>>(), [(first, vec![n; 1_000])]);
            assert_eq!(pages.count, most);
        }
    }

    #[test]
    #[should_panic(expected = "unknown layout")]
    fn another_layout_is_refused() {
        let memory = VectorMemory::default();
        Pages::open(memory.clone(), 64);
        memory.write(3, &[2]);
        Pages::open(memory, 64);
    }
}
