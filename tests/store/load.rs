//! `load`.

use super::harness::Bed;
use super::sample::{APP, BASE, DATA, Sample, docker_archive, gzip, oci_archive, oci_layout};

#[test]
fn images_come_from_all_kinds_of_places() {
    let (a, b) = (Sample::new(1, &[BASE]), Sample::new(2, &[BASE, DATA]));
    let bed = Bed::new();
    bed.write("d.tar", &docker_archive(&[(&a, &["a:1", "x/a:2"]), (&b, &[])]));
    bed.write("o.tar.gz", &gzip(&oci_archive(&[(&b, &["test"])])));
    oci_layout(&bed.p("dir"), &[(&a, &["one"]), (&b, &["quay.io/b/b:2"])]);
    let both = format!("Loaded image: a:1\nLoaded image: x/a:2\nLoaded image ID: {}\n", b.id());
    assert_eq!(bed.ok("load -i d.tar"), both);
    assert_eq!(bed.ok("load --quiet --input d.tar"), format!("{}\n{}\n", a.id(), b.id()));
    assert_eq!(bed.ok("load -i o.tar.gz"), "Loaded image: localhost/o:test\n");
    assert_eq!(bed.ok("load oci-archive:o.tar.gz:test"), "Loaded image: localhost/o:test\n");
    assert_eq!(bed.ok("load docker-archive:d.tar:x/a:2"), "Loaded image: x/a:2\n");
    assert_eq!(bed.ok("load oci:dir:one"), "Loaded image: localhost/dir:one\n");
    assert_eq!(bed.ok("load oci:dir"), "Loaded image: localhost/dir:one\nLoaded image: quay.io/b/b:2\n");
    let archive = docker_archive(&[(&Sample::new(1, &[APP]), &["c"])]);
    assert_eq!(bed.ok_with_input("load", &archive), "Loaded image: c:latest\n");
    assert_eq!(bed.ok_with_input("load -i -", &gzip(&archive)), "Loaded image: c:latest\n");
}
