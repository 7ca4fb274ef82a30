//! Layers on two file systems that cannot be told apart: the same UUID or none, and the same file handles.

use std::process::Command;

use super::harness::{PROGRAM, require, run, text_of};

/// Two mounts of laminafs itself, each over a fresh tmpfs: FUSE has no UUID, and both count their files alike. What is
/// known by handle (origins, the hard link index) must not mix them up.
#[test]
fn files_of_two_layers_with_the_same_handle_are_two_files() {
    require();
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        r#"set -e
        mkdir one two upper work merged
        for fs in one two; do
            mount -t tmpfs none $fs; mkdir $fs/lower $fs/seen
            echo "$fs" >$fs/lower/$fs; ln $fs/lower/$fs $fs/lower/$fs.link; echo "$fs single" >$fs/lower/$fs.single
            {PROGRAM} mount -o lowerdir=$fs/lower $fs/seen
        done
        test "$(stat -c %i one/seen/one)" = "$(stat -c %i two/seen/two)" && echo alike
        {PROGRAM} mount -o lowerdir=one/seen:two/seen,upperdir=upper,workdir=work merged
        cd merged; echo changed >>one.link; echo changed >>two.single; echo changed >>one.single
        cat one two two.link one.single two.single; cd ..
        {PROGRAM} umount merged
        {PROGRAM} mount -o lowerdir=one/seen:two/seen,upperdir=upper,workdir=work merged
        echo again; cat merged/two merged/two.link; echo more >>merged/two.link; cat merged/one.link merged/two.link
        cd merged; test "$(stat -c '%i' one.single two.single two | sort -u | wc -l)" = 3 && echo distinct; cd ..
        {PROGRAM} umount merged; {PROGRAM} umount one/seen; {PROGRAM} umount two/seen"#,
    );
    let output = run(Command::new("unshare")
        .args(["-m", "--propagation", "slave", "bash", "-c", &script])
        .current_dir(dir.path()));
    let said = text_of(output.stdout);
    let want = "alike\none\ntwo\ntwo\none single\nchanged\ntwo single\nchanged\n\
        again\ntwo\ntwo\none\nchanged\ntwo\nmore\ndistinct";
    assert_eq!(said, want, "{}", text_of(output.stderr));
    assert!(output.status.success(), "{}", text_of(output.stderr));
}
