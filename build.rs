//! Makes Rust of `proto/`: no protoc, no secret that `{:?}` could print.

#![allow(clippy::disallowed_methods)] // a build script writes files

use std::fmt::Write as _;
use std::{env, error::Error, fs, path::PathBuf};

use protox::prost_reflect::{DescriptorPool, FieldDescriptor, Value};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(["csi.proto", "pluginregistration.proto"])?;
    let pool = compiler.descriptor_pool();

    // Whatever the proto marks as a secret gets a `Debug` that counts its entries and shows none.
    let secret =
        pool.get_extension_by_name("csi.v1.csi_secret").ok_or("csi.proto defines the option csi_secret")?;
    let is_secret = |field: &FieldDescriptor| {
        // Mount flags are not marked, but the standard says that they may hold credentials.
        field.full_name() == "csi.v1.VolumeCapability.MountVolume.mount_flags"
            || matches!(field.options().get_extension(&secret).as_ref(), Value::Bool(true))
    };
    let (names, code) = redacted_debug(&pool, is_secret)?;
    fs::write(out.join("redacted.rs"), code)?;
    // The descriptors themselves let a test walk every secret field there is.
    fs::write(out.join("csi.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .generate_default_stubs(true) // an RPC that Berth does not offer answers UNIMPLEMENTED
        .skip_debug(names)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// The messages that hold a secret, and a `Debug` for each of them.
fn redacted_debug(
    pool: &DescriptorPool,
    is_secret: impl Fn(&FieldDescriptor) -> bool,
) -> Result<(Vec<String>, String), Box<dyn Error>> {
    let (mut names, mut code) = (Vec::new(), String::new());
    for message in pool.all_messages().filter(|m| m.package_name() == "csi.v1" && !m.is_map_entry()) {
        if !message.fields().any(|f| is_secret(&f)) {
            continue;
        }
        let outer = message.parent_message();
        if message.oneofs().next().is_some() || outer.as_ref().is_some_and(|o| o.parent_message().is_some()) {
            return Err(format!("{}: a secret too deep, or beside a oneof", message.full_name()).into());
        }
        let module = outer.map(|outer| snake_case(outer.name()) + "::").unwrap_or_default();
        names.push(message.full_name().to_string());
        writeln!(
            code,
            "impl ::core::fmt::Debug for {module}{0} {{\n    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        f.debug_struct(\"{0}\")",
            message.name()
        )?;
        for field in message.fields() {
            let name = field.name();
            if is_secret(&field) {
                writeln!(
                    code,
                    "            .field(\"{name}\", &::core::format_args!(\"<{{}} redacted>\", self.{name}.len()))"
                )?;
            } else {
                writeln!(code, "            .field(\"{name}\", &self.{name})")?;
            }
        }
        writeln!(code, "            .finish()\n    }}\n}}")?;
    }
    Ok((names, code))
}

/// How prost calls the module of what is nested in a message.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}
