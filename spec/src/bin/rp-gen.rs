//! tmp
fn main() {
    for o in retpath_spec::render::outputs() {
        let p = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(&o.path);
        std::fs::create_dir_all(p.parent().unwrap()).unwrap();
        std::fs::write(p, &o.bytes).unwrap();
    }
}
