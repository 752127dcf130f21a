//! Finding files by any fragment of their names, case and accents aside: one buffer of folded names, looked through as a whole;
//! and contents by the first digits of their hashes.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::ops::RangeInclusive;

use memchr::memmem::Finder;
use memchr::memrchr;
use tertulia_wire::sharing::{FolderHeld, is_hash_beginning};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use crate::config::PeerLimits;

/// Between two names; in none of them.
const END: u8 = 0;
/// Fewer dead bytes than this are not worth a clearing up.
const DEAD_BYTES_MIN: usize = 64 << 10;
/// Words of one question; more are left out.
const WORDS_MAX: usize = 8;
/// A folded name is at most so many times as long as the name (one character may become eighteen), or [`FOLDED_SHORT`] bytes; what
/// is beyond is not looked through.
const FOLDED_TIMES_MAX: usize = 4;
/// So many bytes of a folded name are always looked through.
const FOLDED_SHORT: usize = 256;

/// A file as somebody announces it: the same name with another content is another file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct File {
    /// A folder's own name ends with `/`.
    pub name: String,
    pub size: u64,
    pub hash: [u8; 32],
    /// What is in it, where it is a folder; the hash is then that of the list of its files.
    pub folder: Option<Box<FolderHeld>>,
}

/// Stands for one [`File`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileKey(u128);

impl File {
    /// Its key; two files with the same one are the same.
    pub fn key(&self) -> FileKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.hash).update(&self.size.to_le_bytes());
        match &self.folder {
            None => hasher.update(&[0]),
            Some(held) => hasher
                .update(&[1])
                .update(&held.files.to_le_bytes())
                .update(&held.bytes.to_le_bytes()),
        };
        hasher.update(self.name.as_bytes());
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        FileKey(u128::from_le_bytes(key))
    }
}

/// A file and who has it.
#[derive(Debug)]
struct Entry {
    file: File,
    /// Numbers of leases.
    holders: Vec<u32>,
}

/// See the module. Who holds what is told to it; whether a holder is still there is not its business.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Folded names, each followed by [`END`].
    folded: Vec<u8>,
    /// Where the name of each place begins; one place is never given to another name.
    starts: Vec<u32>,
    /// Of each place; none where nobody has it any more.
    entries: Vec<Option<Entry>>,
    places: HashMap<FileKey, u32>,
    by_hash: BTreeSet<([u8; 32], u32)>,
    /// The places of folders, by their names.
    folders: HashMap<String, Vec<u32>>,
    dead_bytes: usize,
    /// Of the names that somebody has, as they were said and folded.
    name_bytes: usize,
}

/// What was found: a file, and the numbers of the leases that have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub file: &'a File,
    pub holders: &'a [u32],
}

/// How well a file fits; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Exact,
    /// Its content's hash begins so.
    Hash,
    Prefix,
    Word,
    Fragment,
}

/// A name as it is looked for: without accents, in lower case.
pub(crate) fn fold(text: &str) -> String {
    fold_up_to(text, usize::MAX)
}

/// The same, cut where it gets longer than so many bytes.
fn fold_up_to(text: &str, most: usize) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let lower = text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase);
    let mut folded = String::with_capacity(text.len());
    // Lower case may bring a mark of its own.
    for c in lower.nfkd().filter(|c| !is_combining_mark(*c)) {
        match c {
            'ß' => folded.push_str("ss"),
            c => folded.push(c),
        }
        if folded.len() > most {
            folded.truncate(folded.floor_char_boundary(most));
            break;
        }
    }
    folded
}

/// The same of a file, no longer than it may be, in one piece with its [`END`].
fn fold_name(name: &str) -> Vec<u8> {
    let most = FOLDED_SHORT.max(FOLDED_TIMES_MAX * name.len());
    let mut folded = fold_up_to(name, most).into_bytes();
    folded.iter_mut().filter(|byte| **byte == END).for_each(|byte| *byte = b' ');
    folded.push(END);
    folded
}

impl Index {
    /// How many files somebody has.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// What the names of these take, and what is looked through.
    #[cfg(test)]
    pub const fn bytes(&self) -> (usize, usize) {
        (self.name_bytes, self.folded.len())
    }

    /// `holder` has it; the bytes that its name takes, as it was said and folded. `None` where there is no room for a file more that
    /// nobody has: of them there are so many, their names take so many bytes, and offsets are 32 bits.
    pub fn add(&mut self, file: File, holder: u32, limits: &PeerLimits) -> Option<usize> {
        let key = file.key();
        if let Some(at) = self.places.get(&key).map(|at| *at as usize) {
            let name_bytes = self.name_bytes_of(at);
            let holders = &mut self.entries[at].as_mut()?.holders;
            if !holders.contains(&holder) {
                holders.push(holder);
            }
            return Some(name_bytes);
        }
        let folded = fold_name(&file.name);
        let name_bytes = file.name.len() + folded.len();
        let has_room =
            self.places.len() < limits.files && self.name_bytes + name_bytes <= limits.name_bytes;
        if !has_room {
            return None;
        }
        self.put(key, Entry { file, holders: vec![holder] }, &folded)?;
        Some(name_bytes)
    }

    /// Gives it the next place.
    fn put(&mut self, key: FileKey, entry: Entry, folded: &[u8]) -> Option<()> {
        let start = u32::try_from(self.folded.len()).ok()?;
        let at = u32::try_from(self.entries.len()).ok()?;
        let file = &entry.file;
        self.name_bytes += file.name.len() + folded.len();
        self.folded.extend_from_slice(folded);
        self.starts.push(start);
        self.by_hash.insert((file.hash, at));
        if file.folder.is_some() {
            self.folders.entry(file.name.clone()).or_default().push(at);
        }
        self.entries.push(Some(entry));
        self.places.insert(key, at);
        Some(())
    }

    /// `holder` has it no more; the bytes that its name takes.
    pub fn remove(&mut self, key: FileKey, holder: u32) -> usize {
        let Some(at) = self.places.get(&key).copied() else { return 0 };
        let name_bytes = self.name_bytes_of(at as usize);
        let slot = &mut self.entries[at as usize];
        let Some(entry) = slot else { return 0 };
        entry.holders.retain(|other| *other != holder);
        if !entry.holders.is_empty() {
            return name_bytes;
        }
        let hash = entry.file.hash;
        if entry.file.folder.is_some()
            && let Some(places) = self.folders.get_mut(&entry.file.name)
        {
            places.retain(|other| *other != at);
            if places.is_empty() {
                self.folders.remove(&entry.file.name);
            }
        }
        *slot = None;
        self.places.remove(&key);
        self.by_hash.remove(&(hash, at));
        self.name_bytes -= name_bytes;
        self.dead_bytes += self.end(at as usize) - self.starts[at as usize] as usize;
        if self.dead_bytes > DEAD_BYTES_MIN && self.dead_bytes * 2 > self.folded.len() {
            self.clear_up();
        }
        name_bytes
    }

    fn clear_up(&mut self) {
        // Everything else of the old one goes first.
        let Self { entries, .. } = std::mem::take(self);
        for entry in entries.into_iter().flatten() {
            let folded = fold_name(&entry.file.name);
            self.put(entry.file.key(), entry, &folded);
        }
    }

    /// The bytes that the name at a place takes, as it was said and folded.
    fn name_bytes_of(&self, at: usize) -> usize {
        let said = self.entries[at].as_ref().map_or(0, |entry| entry.file.name.len());
        said + self.end(at) - self.starts[at] as usize
    }

    /// Where the name at a place ends, its [`END`] included.
    fn end(&self, at: usize) -> usize {
        self.starts.get(at + 1).map_or(self.folded.len(), |next| *next as usize)
    }

    /// Files with this content.
    pub fn with_hash(&self, hash: &[u8; 32]) -> impl Iterator<Item = Found<'_>> {
        let places = self.by_hash.range((*hash, 0)..=(*hash, u32::MAX));
        places.filter_map(|(_, at)| self.found(*at as usize))
    }

    fn found(&self, at: usize) -> Option<Found<'_>> {
        let entry = self.entries.get(at)?.as_ref()?;
        Some(Found { file: &entry.file, holders: &entry.holders })
    }

    /// The best `count` files whose names have every word of `question` in them: exact names first, then names that begin so,
    /// then words that begin so, then any fragment; shorter names before longer ones. All files where there is no word. What
    /// is found by the name of a folder that it is in stands for itself only where somebody has it without the folder. Where
    /// the question may be the beginning of a hash ([`hash_range`]), those contents come after exact names, under all their
    /// names.
    pub fn search(&self, question: &str, count: usize) -> Vec<Found<'_>> {
        // What stands between two names is in no name.
        let folded = fold(&question.replace(char::from(END), " "));
        let mut words: Vec<&str> = folded.split_whitespace().take(WORDS_MAX).collect();
        let whole = words.join(" ");
        // The longest is the rarest.
        words.sort_by_key(|word| Reverse(word.len()));
        let mut best = Best { heap: BinaryHeap::new(), count };
        match words.split_first() {
            None => {
                for at in 0..self.entries.len() {
                    self.take(at, Fit::Fragment, &[], &mut best);
                }
            }
            Some((first, others)) => {
                let range = hash_range(&whole);
                if let Some(range) = &range {
                    self.take_hashes(range, whole.as_bytes(), &mut best);
                }
                let whole = whole.trim_end_matches('/');
                self.scan(first, others, whole, range.as_ref(), &mut best);
            }
        }
        best.in_order().filter_map(|at| self.found(at)).collect()
    }

    /// Contents with such hashes, whatever they are called.
    fn take_hashes(&self, range: &HashRange, whole: &[u8], best: &mut Best) {
        for (_, at) in self.by_hash.range((*range.start(), 0)..=(*range.end(), u32::MAX)) {
            let at = *at as usize;
            let (start, end) = (self.starts[at] as usize, self.end(at));
            let is_exact = beginning(&self.folded[start..end - 1], whole) == Some(Fit::Exact);
            let fit = if is_exact { Fit::Exact } else { Fit::Hash };
            if best.would_take((fit, end - start, at)) {
                best.take((fit, end - start, at));
            }
        }
    }

    /// Names, but not those of contents with these hashes.
    fn scan(
        &self,
        first: &str,
        others: &[&str],
        whole: &str,
        not: Option<&HashRange>,
        best: &mut Best,
    ) {
        let is_taken = |at: usize| {
            let entry = self.entries[at].as_ref();
            not.zip(entry).is_some_and(|(range, entry)| range.contains(&entry.file.hash))
        };
        let finders: Vec<Finder<'_>> =
            [first].iter().chain(others).map(|word| Finder::new(*word)).collect();
        let Some((finder, others)) = finders.split_first() else { return };
        let (mut at, mut end) = (0, 0);
        // Once found in a name, it is looked for in the next one.
        while let Some(position) = finder.find(&self.folded[end..]).map(|found| end + found) {
            at = self.place_of(position, at);
            end = self.end(at);
            let name = &self.folded[self.starts[at] as usize..end - 1];
            if others.iter().all(|word| word.find(name).is_some()) && !is_taken(at) {
                let from = position - self.starts[at] as usize;
                let fit = beginning(name, whole.as_bytes()).unwrap_or_else(|| {
                    // Looking for words is dear; most names are not among the best anyway.
                    let might = best.would_take((Fit::Word, end - self.starts[at] as usize, at));
                    if might && is_word(name, from, finder) { Fit::Word } else { Fit::Fragment }
                });
                self.take(at, fit, &finders, best);
            }
        }
    }

    /// The place whose name `position` is in, not before `from`.
    fn place_of(&self, position: usize, from: usize) -> usize {
        let mut step = 1;
        let mut low = from;
        while low + step < self.starts.len() && self.starts[low + step] as usize <= position {
            low += step;
            step *= 2;
        }
        let high = (low + step).min(self.starts.len());
        low + self.starts[low..high].partition_point(|start| *start as usize <= position) - 1
    }

    fn take(&self, at: usize, fit: Fit, words: &[Finder<'_>], best: &mut Best) {
        let len = self.end(at) - self.starts[at] as usize;
        let candidate = (fit, len, at);
        if best.would_take(candidate)
            && let Some(entry) = &self.entries[at]
            && !self.is_within(at, entry, words)
        {
            best.take(candidate);
        }
    }

    /// Whether it is in a folder that is found by the same words, and that all have who have it.
    fn is_within(&self, at: usize, entry: &Entry, words: &[Finder<'_>]) -> bool {
        let Some(slash) = entry.file.name.find('/') else { return false };
        let Some(places) = self.folders.get(&entry.file.name[..=slash]) else { return false };
        let folded = &self.folded[self.starts[at] as usize..self.end(at) - 1];
        let folder =
            folded.iter().position(|byte| *byte == b'/').map_or(folded, |at| &folded[..=at]);
        let has = |holder: &u32| {
            let mut folders =
                places.iter().filter_map(|place| self.entries[*place as usize].as_ref());
            folders.any(|folder| folder.holders.contains(holder))
        };
        entry.file.folder.is_none()
            && words.iter().all(|word| word.find(folder).is_some())
            && entry.holders.iter().all(has)
    }
}

/// Hashes from one to another, both among them.
type HashRange = RangeInclusive<[u8; 32]>;

/// The hashes that begin with these hexadecimal digits, which are as many as [`is_hash_beginning`] asks for; `None` of anything else.
fn hash_range(digits: &str) -> Option<HashRange> {
    if !is_hash_beginning(digits) {
        return None;
    }
    let filled = |fill: char| {
        let mut hash = [0; 32];
        let mut nibbles = digits.chars().chain(std::iter::repeat(fill));
        for byte in &mut hash {
            let mut nibble = || nibbles.next()?.to_digit(16);
            *byte = u8::try_from(nibble()? << 4 | nibble()?).ok()?;
        }
        Some(hash)
    };
    Some(filled('0')?..=filled('f')?)
}

/// How well a name fits that begins with what is looked for, with its folders or without; `None` where it does not.
fn beginning(name: &[u8], whole: &[u8]) -> Option<Fit> {
    // A folder is called as people call it.
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let base = memrchr(b'/', name).map_or(0, |slash| slash + 1);
    let shown = &name[base..];
    if !shown.starts_with(whole) && !name.starts_with(whole) {
        return None;
    }
    let is_exact = whole.len() == shown.len() || whole.len() == name.len();
    Some(if is_exact { Fit::Exact } else { Fit::Prefix })
}

/// Whether `word`, which is in the name first at `from`, is the beginning of a word of it.
fn is_word(name: &[u8], from: usize, word: &Finder<'_>) -> bool {
    let is_start =
        |at: usize| at == 0 || name[at - 1].is_ascii() && !name[at - 1].is_ascii_alphanumeric();
    is_start(from) || word.find_iter(&name[from + 1..]).any(|later| is_start(from + 1 + later))
}

/// The best so many.
struct Best {
    heap: BinaryHeap<(Fit, usize, usize)>,
    count: usize,
}

impl Best {
    fn would_take(&self, candidate: (Fit, usize, usize)) -> bool {
        self.heap.len() < self.count || self.heap.peek().is_some_and(|worst| candidate < *worst)
    }

    fn take(&mut self, candidate: (Fit, usize, usize)) {
        self.heap.push(candidate);
        if self.heap.len() > self.count {
            self.heap.pop();
        }
    }

    fn in_order(self) -> impl Iterator<Item = usize> {
        self.heap.into_sorted_vec().into_iter().map(|(_, _, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> File {
        File {
            name: name.to_owned(),
            size: name.len() as u64,
            hash: *blake3::hash(name.as_bytes()).as_bytes(),
            folder: name.ends_with('/').then(|| Box::new(FolderHeld { files: 2, bytes: 9 })),
        }
    }

    fn add(index: &mut Index, file: File, holder: u32) -> bool {
        index.add(file, holder, &PeerLimits::default()).is_some()
    }

    fn index(names: &[&str]) -> Index {
        let mut index = Index::default();
        names.iter().for_each(|name| assert!(add(&mut index, file(name), 1)));
        index
    }

    fn names<'a>(index: &'a Index, question: &str) -> Vec<&'a str> {
        index.search(question, 100).iter().map(|found| found.file.name.as_str()).collect()
    }

    #[test]
    fn any_fragment_finds_whatever_the_case_and_the_accents() {
        let index = index(&[
            "Informe Ñandú 2026.pdf",
            "CAFÉ.txt",
            "Straße.txt",
            "ﬁn.txt",
            "İzmir.doc",
            "名前.txt",
        ]);
        for (question, name) in [
            ("nandu", "Informe Ñandú 2026.pdf"),
            ("ÑANDÚ", "Informe Ñandú 2026.pdf"),
            ("n\u{303}and", "Informe Ñandú 2026.pdf"),
            ("rme na", "Informe Ñandú 2026.pdf"),
            ("pdf 2026 informe", "Informe Ñandú 2026.pdf"),
            ("cafe", "CAFÉ.txt"),
            ("afé", "CAFÉ.txt"),
            ("STRASSE", "Straße.txt"),
            ("fin.t", "ﬁn.txt"),
            ("izmir", "İzmir.doc"),
            ("前", "名前.txt"),
        ] {
            assert_eq!(names(&index, question), [name], "{question}");
        }
        for nothing in ["xyz", "informe txt", "pdfx", "txt\0cafe z", "txtcafe"] {
            assert_eq!(names(&index, nothing), [""; 0], "{nothing}");
        }
        assert_eq!(names(&index, " ").len(), 6);
    }

    #[test]
    fn exact_names_come_first_then_beginnings_then_words_then_fragments() {
        let index =
            index(&["malta.txt", "la alta", "alta mar", "x/alta", "alta", "altamira", "alta-2"]);
        let expected = ["alta", "x/alta", "alta-2", "alta mar", "altamira", "la alta", "malta.txt"];
        assert_eq!(names(&index, "alta"), expected);
        let best: Vec<_> = index.search("alta", 2).iter().map(|found| &found.file.name).collect();
        assert_eq!(best, ["alta", "x/alta"]);
    }

    #[test]
    fn contents_are_found_by_the_beginning_of_their_hashes_after_exact_names() {
        let of = |name: &str, hash: [u8; 32]| {
            let folder = name.ends_with('/').then(|| Box::new(FolderHeld { files: 2, bytes: 9 }));
            File { name: name.to_owned(), size: 9, hash, folder }
        };
        let hash = |begin: &[u8]| {
            let mut hash = [0x77; 32];
            hash[..begin.len()].copy_from_slice(begin);
            hash
        };
        let (one, two) =
            (hash(&[0xde, 0xad, 0xbe, 0xef, 0x01]), hash(&[0xde, 0xad, 0xbe, 0xef, 0x1f]));
        let mut index = Index::default();
        for (name, hash) in [
            ("f/plano.pdf", one),
            ("copia.pdf", one),
            ("f/", two),
            ("zz deadbeef", [0; 32]),
            ("deadbeef", [1; 32]),
            ("deadbeef.txt", one),
            ("otro", hash(&[0xde, 0xad, 0xbe, 0xee])),
        ] {
            assert!(index.add(of(name, hash), 1, &PeerLimits::default()).is_some());
        }
        // Also what is in a folder that is found with it.
        let all = ["deadbeef", "f/", "copia.pdf", "f/plano.pdf", "deadbeef.txt", "zz deadbeef"];
        assert_eq!(names(&index, "deadbeef"), all);
        assert_eq!(names(&index, "DEADBEEF"), all);
        let ones = ["copia.pdf", "f/plano.pdf", "deadbeef.txt"];
        assert_eq!(names(&index, "deadbeef0"), ones);
        let whole: String = one.iter().map(|byte| format!("{byte:02x}")).collect();
        for digits in [10, 63, 64] {
            assert_eq!(names(&index, &whole[..digits]), ones, "{digits}");
        }
        assert_eq!(names(&index, "deadbeef1"), ["f/"]);
        // Too few, too many, no digits, or more than a word: names only.
        for (question, found) in [
            ("deadbee", &["deadbeef", "deadbeef.txt", "zz deadbeef"][..]),
            (&*format!("{whole}0"), &[]),
            ("deadbeeg", &[]),
            ("deadbeef zz", &["zz deadbeef"]),
        ] {
            assert_eq!(names(&index, question), found, "{question}");
        }
        index.remove(of("copia.pdf", one).key(), 1);
        assert_eq!(names(&index, "deadbeef01"), ones[1..]);
    }

    #[test]
    fn a_file_is_there_as_long_as_somebody_has_it() {
        let mut index = index(&["a.txt", "b.txt"]);
        assert!(add(&mut index, file("a.txt"), 2) && add(&mut index, file("a.txt"), 2));
        assert_eq!(index.search("a.txt", 9)[0].holders, [1, 2]);
        index.remove(file("a.txt").key(), 1);
        index.remove(file("a.txt").key(), 7);
        assert_eq!(index.search("a.txt", 9)[0].holders, [2]);
        assert_eq!(index.with_hash(&file("a.txt").hash).count(), 1);
        index.remove(file("a.txt").key(), 2);
        assert_eq!((names(&index, "a.txt").len(), index.len()), (0, 1));
        assert_eq!(index.with_hash(&file("a.txt").hash).count(), 0);
        assert!(add(&mut index, file("a.txt"), 3));
        assert_eq!(names(&index, "txt").len(), 2);
    }

    #[test]
    fn a_folder_is_one_result_and_what_is_in_it_is_found_by_its_own_name() {
        let mut index =
            index(&["Fotos/", "Fotos/mar.jpg", "Fotos/sol fotos.jpg", "otras fotos.txt", "fotos"]);
        assert_eq!(names(&index, "fotos"), ["fotos", "Fotos/", "otras fotos.txt"]);
        assert_eq!(names(&index, "fotos/"), ["Fotos/"]);
        assert_eq!(names(&index, ""), ["fotos", "Fotos/", "otras fotos.txt"]);
        assert_eq!(names(&index, "jpg"), ["Fotos/mar.jpg", "Fotos/sol fotos.jpg"]);
        assert_eq!(names(&index, "fotos sol"), ["Fotos/sol fotos.jpg"]);
        // Somebody else's folder hides nothing of who has none.
        assert!(add(&mut index, file("Fotos/mar.jpg"), 2));
        assert_eq!(names(&index, "fotos/"), ["Fotos/", "Fotos/mar.jpg"]);
        index.remove(file("Fotos/mar.jpg").key(), 2);
        index.remove(file("Fotos/").key(), 1);
        assert_eq!(names(&index, "fotos/"), ["Fotos/mar.jpg", "Fotos/sol fotos.jpg"]);
        assert!(index.folders.is_empty());
    }

    #[test]
    fn what_comes_and_goes_leaves_no_memory_behind() {
        let mut index = index(&["stays.txt"]);
        for round in 0..50 {
            let names: Vec<_> =
                (0..200).map(|n| format!("{round} {n} a rather long name of a file.txt")).collect();
            names.iter().for_each(|name| assert!(add(&mut index, file(name), 2)));
            for name in &names {
                index.remove(file(name).key(), 2);
            }
        }
        assert!(index.folded.len() < 2 * DEAD_BYTES_MIN + 20_000, "{}", index.folded.len());
        assert_eq!(names(&index, "s"), ["stays.txt"]);
        assert_eq!((index.len(), index.name_bytes), (1, 2 * "stays.txt".len() + 1));
    }

    #[test]
    fn names_take_so_many_bytes_however_long_they_get_when_they_are_folded() {
        // One of three bytes becomes eighteen characters.
        let long = |n: usize| format!("{n:04}{}", "\u{fdfa}".repeat(338));
        let limits = PeerLimits { name_bytes: 1 << 20, ..PeerLimits::default() };
        let mut index = Index::default();
        let taken =
            (0..1_000).take_while(|n| index.add(file(&long(*n)), 1, &limits).is_some()).count();
        let each = 1_018 + FOLDED_TIMES_MAX * 1_018;
        assert!(taken <= limits.name_bytes / each + 1 && taken > 190, "{taken}");
        assert!(index.name_bytes <= limits.name_bytes && index.folded.len() < index.name_bytes);
        // It is found by what is looked through, and who has it, too, needs no room.
        assert_eq!(names(&index, "0007").len(), 1);
        let known = index.add(file(&long(7)), 2, &limits);
        assert!(known.is_some_and(|bytes| bytes <= each + 1), "{known:?}");
        assert_eq!(index.remove(file(&long(7)).key(), 1), known.unwrap());
        assert_eq!(index.remove(file(&long(7)).key(), 2), known.unwrap());
        assert!(index.add(file(&long(5_000)), 1, &limits).is_some(), "there is room again");
        assert!(index.add(file(&long(5_001)), 1, &limits).is_none());
        // A short name is looked through as a whole.
        let name = "\u{fdfa} acta.txt";
        let found = add(&mut index, file(name), 1) && names(&index, "acta.txt") == [name];
        assert!(found, "{name}");
    }

    #[test]
    fn a_scan_finds_what_looking_at_each_name_finds() {
        let mut names_all = Vec::new();
        for n in 0..2_000_u32 {
            let word = |n: u32| ["ana", "mar", "sol", "anamar", "x", "lum"][n as usize % 6];
            names_all.push(format!("{}{}-{} {n}.txt", word(n), word(n / 6), word(n / 36)));
        }
        let index = index(&names_all.iter().map(String::as_str).collect::<Vec<_>>());
        for question in ["ana", "mar", "an", "n", "anamar x", "1 7", ".txt", "x-x"] {
            let mut found: Vec<_> =
                index.search(question, 5_000).iter().map(|found| &found.file.name).collect();
            let words: Vec<_> = question.split(' ').collect();
            let mut expected: Vec<_> = names_all
                .iter()
                .filter(|name| words.iter().all(|word| name.contains(word)))
                .collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{question}");
        }
    }

    /// How long a search takes: `cargo test --release -p tertulia-server --lib -- --ignored --nocapture a_million`
    #[test]
    #[ignore = "a measurement"]
    fn a_million_names() {
        let words =
            ["informe", "ventas", "Ñandú", "año", "photo", "IMG", "draft", "final", "acta", "mapa"];
        let mut index = Index::default();
        for n in 0..1_000_000_u32 {
            let word = |n: u32| words[(n.wrapping_mul(2_654_435_761) >> 16) as usize % words.len()];
            let name = format!("{}/{} {}_{n}.pdf", word(n), word(n + 7), word(n * 3));
            let hash = *blake3::hash(&n.to_le_bytes()).as_bytes();
            let file = File { name, size: u64::from(n), hash, folder: None };
            assert!(add(&mut index, file, n % 100));
        }
        println!("{} names, {} folded bytes", index.len(), index.folded.len());
        let one = blake3::hash(&7_u32.to_le_bytes()).to_hex();
        let questions = ["ventas 777", "nandu", "999999", "zzz", "a", "f", "", "final acta mapa"];
        for question in questions.into_iter().chain([&one[..8], "99999999"]) {
            let mut times: Vec<_> = (0..15)
                .map(|_| {
                    let started = std::time::Instant::now();
                    let found = index.search(question, 101).len();
                    (started.elapsed(), found)
                })
                .collect();
            times.sort_unstable();
            println!(
                "{question:?}: median {:?}, worst {:?}, {} shown",
                times[7].0, times[14].0, times[7].1
            );
        }
    }
}
