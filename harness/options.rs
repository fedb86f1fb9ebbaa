//! Flags that several commands share, and what they turn into.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use weft_formats::chat::{self, Message, Template};
use weft_formats::gguf::{self, File, Metadata};
use weft_formats::tokenizer::Tokenizer;
use weft_models::{AdapterFile, CacheType, Loading, Model, Options, Profile, Source, Spec, Without};

use crate::{Error, Result, interrupt, mini, output, report};

/// Which file.
#[derive(Debug, Clone, Args)]
pub struct ModelFlag {
    /// GGUF file, any shard of a split one, or the name of a model that was pulled; without it, weft-mini, the model on
    /// board
    #[arg(short, long = "model", value_name = "FILE", value_parser = model_file())]
    pub model: Option<PathBuf>,
}

/// Reads `-m`: a file, or else the name of a model that was pulled.
pub fn model_file() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    use clap::builder::TypedValueParser;
    clap::builder::OsStringValueParser::new().try_map(|text| {
        if text.is_empty() {
            return Err("the name of a file is empty");
        }
        let path = PathBuf::from(text);
        let pulled = || weft_hub::Store::standard().ok()?.find(path.to_str()?)?.files.into_iter().next();
        Ok(match path.exists() {
            true => path,
            false => pulled().unwrap_or(path),
        })
    })
}

/// Which device and how much of it.
#[derive(Debug, Clone, Default, Args)]
pub struct DeviceFlags {
    /// Adapter, by its number in `weft devices` or a part of its name
    #[arg(long, value_name = "N|NAME", help_heading = "Device")]
    pub device: Option<String>,
    /// Open the device with only these limits: adreno, mali, webgpu or minimal
    #[arg(long, value_name = "PROFILE", value_parser = profile, help_heading = "Device")]
    pub limits: Option<Profile>,
    /// Leave features unused: any of f16,subgroups,dot,coop,immediates,texels
    #[arg(long, value_name = "LIST", value_parser = Without::parse, help_heading = "Device")]
    pub without: Option<Without>,
    /// Constants of kernels that `weft tune` measured: a file of it, or off [default: this device's, where there
    /// is one]
    #[arg(long, value_name = "FILE|off", help_heading = "Device")]
    pub tuning: Option<String>,
    /// As llama.cpp has it: all layers run on the device here, so any number but 0 asks for what happens anyway.
    #[arg(long, value_name = "N", hide = true, alias = "gpu-layers", value_parser = gpu_layers)]
    pub n_gpu_layers: Option<u32>,
    /// Kernel variants to take where they can run: of [`VariantFlag`], or of a command that filters by one.
    #[arg(skip)]
    pub variants: Vec<String>,
}

fn gpu_layers(text: &str) -> std::result::Result<u32, String> {
    match text.parse::<i64>() {
        Ok(0) => {
            Err("all layers run on the device; --device picks another, `weft devices` lists them".to_owned())
        }
        Ok(_) => Ok(u32::MAX),
        Err(_) if ["all", "auto", "max"].contains(&text) => Ok(u32::MAX),
        Err(_) => Err("not a number".to_owned()),
    }
}

/// Which kernels, in place of those that would be picked.
#[derive(Debug, Clone, Default, Args)]
pub struct VariantFlag {
    /// Kernel variants to take wherever they can run, such as tiled,rows (see `weft kernels list --explain`)
    #[arg(long, value_name = "V,...", value_delimiter = ',', value_parser = variant, help_heading = "Device")]
    pub variant: Vec<String>,
}

fn variant(name: &str) -> std::result::Result<String, String> {
    let known = weft_kernels::select::variants();
    match known.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("known: {}", known.join(", "))),
    }
}

/// The template of conversations.
#[derive(Debug, Clone, Default, Args)]
pub struct TemplateFlag {
    /// Jinja template of conversations, in place of the model's own
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
}

impl TemplateFlag {
    /// The template that was given, with the marks of this tokenizer.
    ///
    /// # Errors
    /// A file that cannot be read, or a template that does not parse.
    pub fn open(&self, tokenizer: &Tokenizer) -> Result<Option<Template>> {
        let Some(path) = &self.chat_template else { return Ok(None) };
        let source = read_text(path)?;
        let text =
            |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default().to_owned();
        let template = Template::new(&source, &text(tokenizer.bos()), &text(tokenizer.eos()));
        Ok(Some(template.map_err(|e| Error::input(format!("{}: {e}", path.display())))?))
    }

    /// A conversation up to where the model answers, as token ids, by this template.
    ///
    /// # Errors
    /// The template refuses these messages, or fails.
    pub fn encode(
        &self,
        template: &Template,
        tokenizer: &Tokenizer,
        messages: &[Message],
        thinking: Option<bool>,
    ) -> Result<Vec<u32>> {
        let options = chat::Options {
            add_generation_prompt: true,
            enable_thinking: thinking,
            ..chat::Options::default()
        };
        let name = self.chat_template.as_deref().unwrap_or(Path::new("")).display();
        template.tokens(messages, &options, tokenizer).map_err(|e| Error::input(format!("{name}: {e}")))
    }
}

/// How a session keeps what it has read.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct CacheFlag {
    /// How the KV cache is stored: f32, f16, q8_0 or q4_0; q8_0 takes 53 % of the memory of f16 and q4_0 28 %
    /// [default: f16; f32 if all matrices are]
    #[arg(long, value_name = "TYPE", value_parser = cache_type, help_heading = "Device")]
    pub cache_type: Option<CacheType>,
}

/// Adapters on top of the model.
#[derive(Debug, Clone, Default, Args)]
pub struct LoraFlag {
    /// LoRA adapter, GGUF or PEFT's (a folder or its safetensors), at SCALE times its own strength [default: 1];
    /// may be repeated
    #[arg(long, value_name = "FILE[:SCALE]")]
    pub lora: Vec<String>,
}

impl LoraFlag {
    /// The adapters, checked against a model, and their factors.
    ///
    /// # Errors
    /// A file that is no adapter, or one of another model.
    pub fn open(&self, spec: &Spec) -> Result<Vec<(AdapterFile, f32)>> {
        let one = |text: &String| {
            let (path, scale) = path_and_scale(text)?;
            Ok((weft_models::open_adapter(Path::new(path), spec)?, scale))
        };
        self.lora.iter().map(one).collect()
    }

    /// The model with the adapters in effect.
    ///
    /// # Errors
    /// As [`LoraFlag::open`]; memory.
    pub fn apply(&self, model: Model) -> Result<Model> {
        if self.lora.is_empty() {
            return Ok(model);
        }
        let adapters = self.open(model.spec())?;
        let parts: Vec<_> = adapters.iter().map(|(a, scale)| (a, *scale)).collect();
        Ok(model.with_adapters(&parts)?)
    }
}

/// `FILE:SCALE`; what is not a number behind the last colon belongs to the name.
///
/// # Errors
/// A file that is there, with what is no finite number behind it.
pub fn path_and_scale(text: &str) -> Result<(&str, f32)> {
    let parts = text.rsplit_once(':').filter(|(path, _)| !path.is_empty() && !Path::new(text).exists());
    let Some((path, scale)) = parts else { return Ok((text, 1.0)) };
    match scale.parse::<f32>() {
        Ok(number) if number.is_finite() => Ok((path, number)),
        _ if Path::new(path).exists() => Err(Error::usage(format!(
            "--lora {text}: {scale:?} behind the file is no strength; give a finite number, such as {path}:0.5"
        ))),
        _ => Ok((text, 1.0)),
    }
}

fn cache_type(name: &str) -> std::result::Result<CacheType, String> {
    CacheType::parse(name).ok_or_else(|| {
        let known: Vec<_> = CacheType::ALL.iter().map(|t| t.name()).collect();
        format!("known: {}", known.join(", "))
    })
}

fn profile(name: &str) -> std::result::Result<Profile, String> {
    Profile::parse(name).ok_or_else(|| {
        let known: Vec<_> = Profile::ALL.iter().map(|p| p.name()).collect();
        format!("known: {}", known.join(", "))
    })
}

impl ModelFlag {
    /// The name for messages and reports.
    pub fn name(&self) -> String {
        self.model.as_ref().map_or_else(|| mini::NAME.to_owned(), |p| p.display().to_string())
    }

    /// The file, or the model on board.
    pub fn source(&self) -> Source {
        match &self.model {
            Some(path) => path.clone().into(),
            None => mini::GGUF.to_vec().into(),
        }
    }

    /// The file, without a device.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub fn open_file(&self) -> Result<File> {
        Ok(match &self.model {
            Some(path) => File::open(path)?,
            None => File::from_bytes(mini::GGUF.to_vec())?,
        })
    }

    /// The file's tokenizer, without a device.
    ///
    /// # Errors
    /// As [`ModelFlag::open_file`]; a vocabulary that is missing or of a kind that is not known.
    pub fn open_tokenizer(&self) -> Result<Tokenizer> {
        let file = self.open_file()?;
        self.tokenizer(file.metadata())
    }

    /// The tokenizer in `metadata`.
    ///
    /// # Errors
    /// A vocabulary that is missing or of a kind that is not known.
    pub fn tokenizer(&self, metadata: &Metadata) -> Result<Tokenizer> {
        let tokenizer = Tokenizer::from_metadata(metadata)
            .map_err(|source| Error::Tokenizer { file: self.name(), source })?;
        report::tokenizer_notes(&tokenizer);
        Ok(tokenizer)
    }

    /// Opens the model on a device, with a bar on a terminal; Ctrl-C cancels. Also gives how long it took.
    ///
    /// # Errors
    /// Anything wrong with the file or the device.
    pub fn open(
        &self,
        device: &DeviceFlags,
        chunk: Option<u32>,
        context: Option<u32>,
        cache: CacheFlag,
    ) -> Result<(Model, Duration)> {
        self.begin(device, chunk, context, cache)?.finish()
    }

    /// The first half of [`ModelFlag::open`], before the weights.
    ///
    /// # Errors
    /// Anything wrong with the file or the device.
    pub fn begin(
        &self,
        device: &DeviceFlags,
        chunk: Option<u32>,
        context: Option<u32>,
        cache: CacheFlag,
    ) -> Result<Started> {
        // Headers are checked by the thousand here, so that `-c 0` can ask for the model's own context.
        begin(self.source(), device, chunk, self.asked_context(context)?, cache)
    }

    /// What `-c N` means before the model is open: 0 is all that the model was trained for.
    fn asked_context(&self, context: Option<u32>) -> Result<Option<u32>> {
        match context {
            Some(0) => Ok(Some(Spec::read(&self.open_file()?)?.context)),
            other => Ok(other),
        }
    }
}

/// The first half of opening a model from any source, before the weights; [`Started::finish`] is the second.
///
/// # Errors
/// Anything wrong with the source or the device.
pub fn begin(
    source: Source,
    device: &DeviceFlags,
    chunk: Option<u32>,
    context: Option<u32>,
    cache: CacheFlag,
) -> Result<Started> {
    let (device, cache) = (device.options()?, cache.cache_type);
    begin_with(source, &Options { device, chunk, context, cache, ..Options::default() })
}

/// As [`begin`], with all options.
///
/// # Errors
/// The same.
pub fn begin_with(source: Source, options: &Options) -> Result<Started> {
    let start = Instant::now();
    let bar = output::bar(0, "loading {bar:30} {bytes} of {total_bytes}, {elapsed}");
    bar.tick();
    let loading = Model::begin(source, options).inspect_err(|_| bar.finish_and_clear())?;
    if let Ok(tokenizer) = loading.tokenizer() {
        bar.suspend(|| report::tokenizer_notes(tokenizer));
    }
    Ok(Started { loading, bar, start })
}

/// A model whose weights are not there yet, and the bar that shows them come.
pub struct Started {
    /// The model.
    pub loading: Loading,
    bar: ProgressBar,
    start: Instant,
}

impl Started {
    /// Uploads the weights; Ctrl-C cancels. Also gives how long all of it took.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn finish(self) -> Result<(Model, Duration)> {
        let bar = self.bar;
        let model = self.loading.finish(&mut |p| {
            bar.set_length(p.total);
            bar.set_position(p.done);
            interrupt::flow()
        });
        bar.finish_and_clear();
        let model = model?;
        report::tuning_notes(model.gpu().caps());
        report::software_note(model.gpu().caps());
        Ok((model, self.start.elapsed()))
    }
}

/// Says so where a context is longer than what the model was trained for.
pub fn note_context(trained: u32, context: u32) {
    note_context_of("", trained, context);
}

/// The same of one model among several.
pub fn note_context_of(name: &str, trained: u32, context: u32) {
    if context > trained {
        let name = if name.is_empty() { String::new() } else { format!("{name}: ") };
        output::note(&format!(
            "warning: {name}a context of {context} was asked for, but the model was trained for {trained}; what lies beyond \
             that is likely to make no sense"
        ));
    }
}

/// A number of tokens that is not 0, such as an answer has that is scored.
pub fn tokens(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "a whole number from 1 on is needed".to_owned())
}

/// The context for a session: what was asked for, all that the model was trained for with 0, else the default.
pub fn context(spec: &Spec, asked: Option<u32>) -> u32 {
    match asked {
        Some(0) => spec.context,
        Some(n) => n,
        None => spec.default_context(),
    }
}

impl DeviceFlags {
    /// For opening a device.
    ///
    /// # Errors
    /// A tuning file that is not there.
    pub fn options(&self) -> Result<weft_models::DeviceOptions> {
        let tuning = match self.tuning.as_deref() {
            None => weft_runtime::default_cache(),
            Some("off") => None,
            Some(file) if Path::new(file).is_file() => Some(file.into()),
            Some(file) => {
                return Err(Error::input(format!("{file}: no such file; `weft tune -o {file}` writes one")));
            }
        };
        Ok(weft_models::DeviceOptions {
            device: self.device.clone(),
            profile: self.limits,
            without: self.without.unwrap_or_default(),
            variants: self.variants.clone(),
            cache: weft_runtime::default_cache(),
            tuning,
            ..Default::default()
        })
    }
}

/// Refuses an output that is one of the inputs, or a file that is there and is of another kind than what will be
/// written: `is` knows the kind by its first bytes, `kind` names it.
///
/// # Errors
/// Such an output; the line says what to do.
pub fn check_output(
    output: &Path,
    inputs: &[Option<&Path>],
    kind: &str,
    is: impl FnOnce(&[u8]) -> bool,
) -> Result<()> {
    let own = output.canonicalize();
    for input in inputs.iter().flatten() {
        if let (Ok(a), Ok(b)) = (&own, input.canonicalize())
            && *a == b
        {
            let what = "is the file to read; give another to write";
            return Err(Error::input(format!("{}: {what}", output.display())));
        }
    }
    let Ok(mut file) = std::fs::metadata(output).and_then(|m| match m.is_file() {
        true => std::fs::File::open(output),
        // AtomicFile::create says what is wrong with it.
        false => Err(std::io::ErrorKind::Other.into()),
    }) else {
        return Ok(());
    };
    let mut head = vec![0; 1 << 16];
    let read = std::io::Read::read(&mut file, &mut head).map_err(|e| Error::io(output, e))?;
    match read == 0 || is(&head[..read]) {
        true => Ok(()),
        false => Err(Error::input(format!(
            "{}: is there already, and is not {kind}; remove it first, or give another name",
            output.display()
        ))),
    }
}

/// Refuses a name that is there and is no folder.
///
/// # Errors
/// It is.
pub fn check_folder(path: &Path) -> Result<()> {
    match path.exists() && !path.is_dir() {
        true => Err(Error::input(format!("{}: is no folder; give the name of one", path.display()))),
        false => Ok(()),
    }
}

/// As [`check_output`], for a GGUF file of `kind` (`general.type`: model, adapter or imatrix).
///
/// # Errors
/// As [`check_output`].
pub fn check_gguf(output: &Path, inputs: &[PathBuf], kind: &str) -> Result<()> {
    let inputs: Vec<_> = inputs.iter().map(|p| Some(p.as_path())).collect();
    check_output(output, &inputs, &format!("a GGUF file of type \"{kind}\""), |head| {
        head.starts_with(b"GGUF") && gguf::kind_of(output).is_some_and(|k| k == kind)
    })
}

/// Reads a whole text file; "-" is stdin.
///
/// # Errors
/// It is missing, a directory, a device, or not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        return output::stdin_text();
    }
    #[cfg(unix)]
    if let Ok(stat) = std::fs::metadata(path) {
        use std::os::unix::fs::FileTypeExt;
        if stat.file_type().is_char_device() || stat.file_type().is_block_device() {
            return Err(Error::input(format!("{}: is a device, not a file", path.display())));
        }
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::input(format!("{}: not UTF-8 (at byte {at})", path.display()))
    })
}

/// Token ids from a JSON array of whole numbers; `what` names it in errors.
///
/// # Errors
/// Not such an array.
pub fn ids_from_json(text: &str, what: &str) -> Result<Vec<u32>> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| {
        Error::input(format!("{what}: not JSON ({e}); expected an array of token ids such as [1, 2, 3]"))
    })?;
    let items = value
        .as_array()
        .ok_or_else(|| Error::input(format!("{what}: not an array of token ids such as [1, 2, 3]")))?;
    items
        .iter()
        .enumerate()
        .map(|(i, v)| {
            v.as_u64().and_then(|v| v.try_into().ok()).ok_or_else(|| {
                let shown: String = v.to_string().chars().take(40).collect();
                Error::input(format!("{what}: item {i} is {shown}, not a token id"))
            })
        })
        .collect()
}
