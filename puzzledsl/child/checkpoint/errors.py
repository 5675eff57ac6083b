"""Diagnostics of writing and verifying checkpoints."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class WouldOverwrite(Diagnostic):
    """The output directory contains something that is not a child checkpoint.

    A child is written to a new directory or over an older child, never over anything else.

    Wrong:
        export out of s = hf("/home/me")
    Right:
        export out of s = hf("child")
    """

    code = "E0731"
    template = "`{path}` exists and is not a child checkpoint"
    help_template = "choose another directory, or remove this one"


class RuntimeLacksFamily(Diagnostic):
    """The runtime cannot run children of parents of this architecture.

    A runtime has model code for some architectures, and few allow layers to differ. In llama.cpp none of these has both
    norms on queries and keys and biases in attention.

    Wrong:
        $ pzl verify-export child-of-qwen3-with-biases --runtime llama_cpp
    Right:
        $ pzl verify-export child-of-qwen3-with-biases --runtime transformers
    """

    code = "E0733"
    template = "{runtime} cannot run children of {family} parents: {reason}"
    help_template = "export with `runtime: transformers`, or with `mlx(…)`"


class RuntimeLacksIt(Diagnostic):
    """An alternative that the runtime lacks and that nothing in the runtime can replace exactly.

    A missing alternative is rewritten if an exact replacement exists. First tokens beside a window have none.

    Wrong:
        $ pzl verify-export child-with-first-tokens --runtime llama_cpp
    Right:
        $ pzl verify-export child-with-first-tokens --runtime transformers
    """

    code = "E0734"
    template = "{runtime} cannot represent `{name}` ({layers}): {reason}"
    help_template = "export with `runtime: transformers`, or leave `{name}` out of the space"


class RuntimeLacksWindow(Diagnostic):
    """The parent's attention has a window, and the runtime has none.

    Some parents see only the last tokens in some layers. A runtime without windows would silently attend to all
    tokens.

    Wrong:
        # parent/config.json: {"model_type": "qwen2", "use_sliding_window": true, "sliding_window": 4096, …}
        export out of s = gguf("child.gguf")
    Right:
        # parent/config.json: {"model_type": "qwen2", "use_sliding_window": true, "sliding_window": 4096, …}
        export out of s = hf("child", runtime: vllm)
    """

    code = "E0735"
    template = (
        "{runtime} cannot represent the parent's sliding window of {window:,} tokens ({layers}): {reason}"
    )
    help_template = "export with `runtime: transformers`, or with `mlx(…)`"


class MissingPackage(Diagnostic):
    """An optional package is not installed.

    Writing GGUF files and running children in other engines need packages that are optional.

    Wrong:
        $ pip install puzzledsl
    Right:
        $ pip install 'puzzledsl[runtimes]'
    """

    code = "E0738"
    template = "{what} needs the package `{package}`, which is not installed"
    help_template = "pip install 'puzzledsl[{extra}]'"


class NoSuchEngine(Diagnostic):
    """A requested engine is not installed here.

    transformers is always installed; llama.cpp and MLX come with the `runtimes` extra; vLLM has a separate
    environment.

    Wrong:
        $ pzl verify-export out/child --runtime vllm
    Right:
        $ scripts/vllm_env.sh
        $ pzl verify-export out/child --runtime vllm
    """

    code = "E0739"
    template = "{title} is not installed here"
    help_template = "{help}"


class NotAGguf(Diagnostic):
    """The output file exists and is not a GGUF file.

    A GGUF file is written to a new path or over an older GGUF file.

    Wrong:
        export out of s = gguf("thesis.tex")
    Right:
        export out of s = gguf("child.gguf")
    """

    code = "E0740"
    template = "`{path}` exists and is no GGUF file"
    help_template = "choose another name, or remove this one"


class RecipeFailed(Diagnostic):
    """llama.cpp could not quantise a child by a whole-file recipe.

    llama.cpp chooses the storage types of `dtype: q4_k_m` and its like, in a process of its own. Nothing is written if it fails.

    Wrong:
        export out of s = gguf("child.gguf", dtype: q4_k_m)
    Right:
        export out of s = gguf("child.gguf", dtype: q8_0)
    """

    code = "E0742"
    template = "llama.cpp could not quantise the child to `{recipe}`: {reason}"
    help_template = "export with `dtype: q8_0` or `dtype: f16`, which puzzledsl writes itself"


class NotThisChild(Diagnostic):
    """A GGUF file that was not made of the child in the directory.

    `pzl verify-export DIR --gguf FILE` puts the file's weights into the child. The file must have each of them, in its size.

    Wrong:
        $ pzl verify-export build/models/small --gguf large.gguf
    Right:
        $ pzl verify-export build/models/small --gguf small.gguf
    """

    code = "E0743"
    template = "`{path}` is not made of this child: {reason}"
    help_template = "name the file that was exported from this directory, or export it again"


class UntrustedCode(Diagnostic):
    """A child's directory contains code that differs from what puzzledsl writes there.

    Engines run the Python of an exported directory. It is compared byte for byte with the model code that this version
    writes for the same child, and so are the names of code in the configurations. Nothing of the directory runs before
    that. An export of another version is refused too: export it again.

    Wrong:
        $ ls child
        config.json  configuration_decilm.py  helper.py  model.safetensors  modeling_decilm.py  window.py
        $ pzl verify-export child
    Right:
        $ rm child/helper.py
        $ pzl verify-export child
    """

    code = "E0741"
    template = "`{path}` is not what puzzledsl writes: {reason}"
    help_template = (
        "nothing of it was run; export the child again, or give `--trust-remote-code` if you know this code"
    )
