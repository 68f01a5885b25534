//! Which file systems cannot carry the state.
//!
//! SQLite's write-ahead log needs working locks, shared memory between processes and an fsync that
//! reaches the disk. File systems reached over a network break at least one of them.

use std::path::Path;

use super::StoreError;

/// The kind of network file system that `dir` is on, if it is on one.
#[cfg(target_os = "linux")]
pub(super) fn network(dir: &Path) -> Result<Option<String>, StoreError> {
    let about = rustix::fs::statfs(dir)
        .map_err(|error| StoreError::io("ask for the file system of", dir, error.into()))?;
    // Only the low 32 bits are the number; some architectures sign-extend it.
    let magic = about.f_type as u64 & 0xffff_ffff;
    if magic == FUSE {
        return Ok(fuse_kind(dir).filter(|kind| is_network_fuse(kind)));
    }
    Ok(MAGIC.iter().find(|(number, _)| *number == magic).map(|(_, name)| (*name).to_owned()))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn network(_dir: &Path) -> Result<Option<String>, StoreError> {
    Ok(None)
}

/// Numbers from `statfs(2)` and `linux/magic.h`.
#[cfg(target_os = "linux")]
const MAGIC: &[(u64, &str)] = &[
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xfe53_4d42, "smb2"),
    (0xff53_4d42, "cifs"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x564c, "ncp"),
    (0x0bd0_0bd0, "lustre"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
    (0x1983_0326, "beegfs"),
    (0x4750_4653, "gpfs"),
    (0x2003_0528, "orangefs"),
];
#[cfg(target_os = "linux")]
const FUSE: u64 = 0x6573_5546;

/// The type of the FUSE mount that holds `dir`, such as `fuse.sshfs`, by the longest mount point
/// above it.
#[cfg(target_os = "linux")]
fn fuse_kind(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    kind_of_mount(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, &dir)
}

/// Reads `mountinfo`: "36 35 98:0 / /mnt rw shared:1 - fuse.sshfs host:/dir rw".
#[cfg(target_os = "linux")]
fn kind_of_mount(mounts: &str, dir: &Path) -> Option<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let point = left.split(' ').nth(4)?.replace("\\040", " ");
            let kind = right.split(' ').next()?;
            dir.starts_with(&point).then(|| (point.len(), kind.to_owned()))
        })
        // The last of equals is the one mounted on top.
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind)
}

/// FUSE carries local file systems too (virtiofs, fuseblk), so only known network ones are refused.
#[cfg(target_os = "linux")]
fn is_network_fuse(kind: &str) -> bool {
    const NAMES: &[&str] = &[
        "sshfs",
        "glusterfs",
        "ceph",
        "s3fs",
        "goofys",
        "geesefs",
        "rclone",
        "gcsfuse",
        "mount-s3",
        "mountpoint-s3",
        "blobfuse",
        "juicefs",
        "seaweedfs",
        "moosefs",
        "mfs",
        "lizardfs",
        "cvmfs",
        "davfs",
        "curlftpfs",
        "smbnetfs",
        "beegfs",
        "hdfs",
        "quobyte",
        "objectivefs",
        "alluxio",
    ];
    let name = kind.strip_prefix("fuse.").unwrap_or(kind).to_ascii_lowercase();
    NAMES.iter().any(|network| name.starts_with(network))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:40 / /mnt/remote rw shared:5 - fuse.sshfs host:/dir rw
31 22 0:41 / /mnt/remote/local\\040disk rw - virtiofs share rw
";

    #[test]
    fn the_mount_nearest_to_the_directory_tells_its_kind() {
        let kind = |dir: &str| kind_of_mount(MOUNTS, Path::new(dir));
        assert_eq!(kind("/srv").as_deref(), Some("ext4"));
        assert_eq!(kind("/mnt/remote/state").as_deref(), Some("fuse.sshfs"));
        assert_eq!(kind("/mnt/remotely").as_deref(), Some("ext4"));
        assert_eq!(kind("/mnt/remote/local disk/state").as_deref(), Some("virtiofs"));
    }

    #[test]
    fn a_fuse_mount_is_refused_only_when_a_network_is_behind_it() {
        assert!(is_network_fuse("fuse.sshfs"));
        assert!(is_network_fuse("fuse.glusterfs"));
        assert!(!is_network_fuse("virtiofs"));
        assert!(!is_network_fuse("fuseblk"));
        assert!(!is_network_fuse("fuse"));
    }

    #[test]
    fn a_temporary_directory_is_no_network() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(network(dir.path()).unwrap(), None);
    }
}
