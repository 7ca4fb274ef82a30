//! Several mounts at one place.

use super::mounts::Mounts;

#[test]
fn a_name_ends_its_own_mount_and_no_other() {
    let bed = Mounts::new();
    bed.ok("mount --name first app m");
    bed.write("m/mine", "1");
    bed.ok("mount --name second app m");
    assert!(!bed.p("m/mine").exists());
    for line in ["umount first", "umount --lazy first", "rm -f first"] {
        assert!(bed.fails(line).contains("something else is mounted over it"), "{line}");
    }
    bed.ok("umount second");
    assert_eq!(bed.read("m/mine"), "1", "what was below is there again");
    bed.ok("umount first");
    assert!(!bed.p("m/mine").exists());
    bed.ok("rm first second");
}

#[test]
fn mounts_of_the_kernel_are_told_apart_too() {
    let bed = Mounts::new();
    // Both by paths that the kernel does not know them by.
    std::os::unix::fs::symlink(".", bed.p("here")).unwrap();
    bed.ok("mount --kernel --name first app here/m");
    bed.write("m/mine", "1");
    bed.ok("mount --kernel --name second app here/m");
    for line in ["umount first", "rm -f first"] {
        assert!(bed.fails(line).contains("something else is mounted over it"), "{line}");
    }
    bed.ok("umount second");
    assert_eq!(bed.read("m/mine"), "1");
    bed.ok("umount first");
    bed.ok("rm first second");
}
