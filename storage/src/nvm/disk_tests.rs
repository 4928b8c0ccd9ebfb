//! The device by itself: room, bad pages, and regions in files.

use super::super::shadow::Shadow;
use super::*;
use crate::journal_tests::IDENTITY;

const SEGMENT_BYTES: u64 = 8 << 10;

fn shadow(segments: u64) -> Shadow {
    let bytes = EXTENTS_OFFSET + segments * SEGMENT_BYTES;
    Shadow::of(vec![0; bytes as usize / 8])
}

fn disk(segments: u64) -> NvmDisk<Shadow> {
    NvmDisk::on(Region::format(shadow(segments), &IDENTITY), None).unwrap()
}

fn header(segment: u64) -> SegmentHeader {
    SegmentHeader { identity: IDENTITY, segment: SegmentId(segment), bytes: SEGMENT_BYTES }
}

fn poll<M: Medium>(disk: &mut NvmDisk<M>) -> Vec<Completion> {
    let mut completions = Vec::new();
    disk.poll(&mut completions).unwrap();
    completions
}

/// Prepares a segment and says whether there was room.
fn prepare<M: Medium>(disk: &mut NvmDisk<M>, segment: u64) -> bool {
    disk.prepare(header(segment), true);
    disk.wait().unwrap();
    let completions = poll(disk);
    let [Completion::Prepared { result, .. }] = &completions[..] else { panic!("one answer") };
    result.is_ok()
}

#[test]
fn a_full_region_says_so_once_and_then_waits_for_a_segment_to_be_freed() {
    let mut disk = disk(2);
    assert!(prepare(&mut disk, 1) && prepare(&mut disk, 2));
    assert!(!prepare(&mut disk, 3), "there is room for two");
    disk.prepare(header(3), true);
    assert!(!disk.is_ready() && poll(&mut disk).is_empty(), "nothing has changed: the core may park");
    disk.free(SegmentId(1));
    assert!(disk.is_ready());
    disk.wait().unwrap();
    assert!(matches!(poll(&mut disk)[..], [Completion::Prepared { segment: SegmentId(3), result: Ok(()) }]));
    let segments: Vec<u64> = disk.list().unwrap().iter().map(|file| file.segment.0).collect();
    assert_eq!(segments, [2, 3]);
}

#[test]
fn a_freed_extent_is_zeroed_in_slices_before_it_is_a_segment_again() {
    let mut disk = disk(1);
    assert!(prepare(&mut disk, 1));
    let full = AlignedBuffer::new(4096);
    let mut marked = full;
    marked.fill(7);
    disk.write(1, Position { segment: SegmentId(1), offset: 4096 }, marked, 4096);
    disk.submit().unwrap();
    disk.free(SegmentId(1));
    disk.prepare(header(2), false);
    disk.make_on(4096);
    assert!(disk.list().unwrap().is_empty(), "half of it is zeroed");
    disk.make_on(4096);
    let mut page = [1; 4096];
    disk.read_at(Position { segment: SegmentId(2), offset: 4096 }, &mut page).unwrap();
    assert_eq!(page, [0; 4096]);
    assert!(disk.read_at(Position { segment: SegmentId(1), offset: 4096 }, &mut page).is_err());
}

#[test]
fn what_is_written_completes_with_the_fence_of_its_turn() {
    let mut disk = disk(2);
    assert!(prepare(&mut disk, 1));
    let at = Position { segment: SegmentId(1), offset: 4096 };
    disk.write(5, at, AlignedBuffer::new(4096), 256);
    assert!(poll(&mut disk).is_empty(), "no fence followed");
    disk.submit().unwrap();
    assert!(disk.is_ready());
    assert!(matches!(poll(&mut disk)[..], [Completion::Written { token: 5, result: Ok(()), .. }]));
    assert_eq!(disk.durable_tail(), Some(at), "what is before the first block of this life");
    while disk.is_ready() {
        poll(&mut disk);
    }
    assert_eq!(disk.durable_tail(), Some(Position { offset: 4352, ..at }), "noted when there was time");
    disk.write(6, Position { offset: SEGMENT_BYTES, ..at }, AlignedBuffer::new(4096), 256);
    disk.submit().unwrap();
    assert!(matches!(poll(&mut disk)[..], [Completion::Written { token: 6, result: Err(_), .. }]));
}

#[test]
fn a_bad_page_is_replaced_or_left_unused() {
    for is_replaceable in [true, false] {
        let memory = shadow(3);
        let region = Region::format(memory.clone(), &IDENTITY);
        memory.spoil(EXTENTS_OFFSET + SEGMENT_BYTES, is_replaceable);
        let mut disk = NvmDisk::on(region, None).unwrap();
        assert!(prepare(&mut disk, 1));
        // Of the rest, the bad page and the one behind it are no room for a segment.
        assert!(prepare(&mut disk, 2));
        assert_eq!(prepare(&mut disk, 3), is_replaceable);
        let mut page = [0; 4096];
        for segment in [1, 2] {
            disk.read_at(Position { segment: SegmentId(segment), offset: 4096 }, &mut page).unwrap();
        }
    }
}

#[test]
fn a_bad_page_that_holds_the_table_is_an_error_not_the_end_of_the_process() {
    let memory = shadow(1);
    drop(Region::format(memory.clone(), &IDENTITY));
    // The table that holds is the second.
    memory.spoil(8192 + (16 << 10), true);
    assert!(matches!(Region::open(memory, &IDENTITY), Err(RegionError::Io("reading the table", _))));
}

// Not under Miri: it maps no files.
#[cfg(not(miri))]
mod files {
    use std::fs::OpenOptions;
    use std::path::Path;

    use annulus_rings::{ClusterId, CoreId, NodeId};

    use super::*;
    use crate::data_dir::DataDir;
    use crate::nvm::NvmBacking;

    fn options() -> NvmOptions {
        NvmOptions { backing: NvmBacking::Emulated, region_bytes: 1 << 20, ..NvmOptions::default() }
    }

    fn core(path: &Path) -> CoreDirectory {
        DataDir::open(path, ClusterId(7), NodeId(1), 1).unwrap().core(CoreId(0))
    }

    #[test]
    fn a_region_in_a_file_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = NvmDisk::open(&core(directory.path()), &options()).unwrap();
        assert_eq!(disk.kind(), DiskKind::NvmEmulated);
        assert!(prepare(&mut disk, 1));
        drop(disk);
        let mut disk = NvmDisk::open(&core(directory.path()), &options()).unwrap();
        assert_eq!(disk.list().unwrap().len(), 1);
    }

    #[test]
    fn a_region_that_is_gone_is_a_loss() {
        let directory = tempfile::tempdir().unwrap();
        let core = core(directory.path());
        drop(NvmDisk::open(&core, &options()).unwrap());
        std::fs::remove_file(core.path().join("journal.nvm")).unwrap();
        let Err(error) = NvmDisk::open(&core, &options()) else { panic!("begun anew") };
        assert!(error.to_string().contains("could forget votes"), "{error}");
    }

    #[test]
    fn a_region_that_was_cut_off_is_a_loss() {
        let directory = tempfile::tempdir().unwrap();
        let core = core(directory.path());
        drop(NvmDisk::open(&core, &options()).unwrap());
        let file = OpenOptions::new().write(true).open(core.path().join("journal.nvm")).unwrap();
        file.set_len(1 << 19).unwrap();
        let Err(error) = NvmDisk::open(&core, &options()) else { panic!("half of it was taken") };
        assert!(error.to_string().contains("its size"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_region_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let core = core(directory.path());
        let path = core.path().join("journal.nvm");
        let thesis = vec![b'x'; 1 << 20];
        std::fs::write(&path, &thesis).unwrap();
        let Err(error) = NvmDisk::open(&core, &options()) else { panic!("taken for a region") };
        assert!(error.to_string().contains("not the region of this journal"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), thesis);
    }

    #[test]
    fn a_journal_begun_in_files_is_not_begun_again_in_a_region() {
        let directory = tempfile::tempdir().unwrap();
        let core = core(directory.path());
        std::fs::write(core.begun_mark(), "").unwrap();
        let Err(error) = NvmDisk::open(&core, &options()) else { panic!("begun anew") };
        assert!(error.to_string().contains("the kind of journal that was begun"), "{error}");
    }

    #[test]
    fn memory_is_called_volatile_and_too_little_of_it_is_refused() {
        let disk = NvmDisk::emulated(&IDENTITY, 1 << 20).unwrap();
        assert!(!disk.kind().is_durable() && disk.kind().to_string().contains("volatile"));
        assert!(NvmDisk::emulated(&IDENTITY, 4096).is_err());
    }
}
