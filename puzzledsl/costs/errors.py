"""Diagnostics of costs: a hardware profile that cannot run the workload, a cost table that does not fit the space."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoPeakForDtype(Diagnostic):
    """A profile without a FLOP rate for a dtype that it computes in.

    The time of a sub-block is computed from the peak FLOP rate of its type, which the profile must give.

    Wrong:
        hardware card { memory = 24GB, bandwidth = 1TB/s, peak { bf16 = 165TFLOP/s } }
        hardware own = card(dtype: bf16, kv_cache: fp8)
    Right:
        hardware card { memory = 24GB, bandwidth = 1TB/s, peak { bf16 = 165TFLOP/s, fp8 = 330TFLOP/s } }
        hardware own = card(dtype: fp8, kv_cache: fp8)
    """

    code = "E1001"
    template = "hardware `{name}` has no FLOP/s for {dtype}, which its {role} use"
    help_template = "it has {known}"


class UnknownDtype(Diagnostic):
    """A dtype whose size is not known.

    Costs need the bytes of each type, and this type is not among the known ones.

    Wrong:
        hardware own { memory = 24GB, bandwidth = 1TB/s, peak { int3 = 165TFLOP/s }, dtype = int3 }
    Right:
        hardware own { memory = 24GB, bandwidth = 1TB/s, peak { bf16 = 165TFLOP/s }, dtype = bf16 }
    """

    code = "E1002"
    template = "hardware `{name}`: `{dtype}` is no dtype"
    help_template = "dtypes: {known}"


class NoLink(Diagnostic):
    """Several GPUs without a link between them.

    Tensor-parallel sub-blocks exchange their results, and the time for this depends on the link.

    Wrong:
        hardware card { memory = 24GB, bandwidth = 1TB/s, peak { bf16 = 165TFLOP/s } }
        hardware own = card(gpus: 2)
    Right:
        hardware card { memory = 24GB, bandwidth = 1TB/s, peak { bf16 = 165TFLOP/s }, link = 32GB/s }
        hardware own = card(gpus: 2)
    """

    code = "E1003"
    template = "hardware `{name}` has {gpus} GPUs and no bandwidth between them"
    help_template = "give the profile a `link`, in GB/s, or use one GPU"


class TableUnreadable(Diagnostic):
    """A cost table that is missing or no CSV or Parquet.

    A cost table is a CSV or Parquet file; its path starts at the program's directory.

    Wrong:
        hardware own = table("costs.xlsx")
    Right:
        hardware own = table("costs.csv")
    """

    code = "E1011"
    template = "cannot read the cost table `{path}`: {reason}"
    help_template = "{help}"


class TableColumn(Diagnostic):
    """A column that is missing, duplicate or not understood.

    Columns are `layer`, `attention`, `ffn`, `params`, `batch`, and for every figure the scenario, the metric and the
    unit.

    Wrong:
        layer,attention,ffn,latency
        0,gqa2,,12
    Right:
        layer,attention,ffn,chat.latency[us]
        0,gqa2,,12
    """

    code = "E1012"
    template = "`{path}`: {problem}"
    help_template = (
        "columns: `layer`, `attention`, `ffn`, and `SCENARIO.METRIC[UNIT]` such as `{scenario}.latency[us]`"
    )


class TableMetrics(Diagnostic):
    """A scenario of which a table has no columns.

    A scenario has sizes (`memory`, or `weights` and `kv_cache`), times (`latency`, or `ttft` and `tpot`), or both. A
    search cannot bound a figure that is left out.

    Wrong:
        layer,attention,ffn,rag.memory[bytes]
        0,gqa2,,1048576
    Right:
        layer,attention,ffn,chat.memory[bytes],chat.latency[us]
        0,gqa2,,1048576,12
    """

    code = "E1013"
    template = "`{path}` gives neither sizes nor times of scenario `{scenario}`"
    help_template = "add columns such as `{scenario}.memory[bytes]` and `{scenario}.latency[us]`"


class TableCell(Diagnostic):
    """A cell that is not a number, out of range or empty, or a duplicate row.

    A cell is a number of at least 0 in the unit of its column, and every row is about a different thing.

    Wrong:
        layer,attention,ffn,chat.latency[us]
        0,gqa2,,12us
    Right:
        layer,attention,ffn,chat.latency[us]
        0,gqa2,,12
    """

    code = "E1014"
    template = "`{path}` {line}: {problem}"
    help_template = "{help}"


class TableMissing(Diagnostic):
    """The space has an alternative without a cost in the table.

    Every alternative of every layer needs its costs. A row without a layer applies to all layers.

    Wrong:
        layer,attention,ffn,chat.latency[us]
        0,parent,,20
    Right:
        layer,attention,ffn,chat.latency[us]
        0,parent,,20
        0,noop,,0
    """

    code = "E1015"
    template = "`{path}` has no cost of {what} for scenario `{scenario}` in {layers}"
    help_template = "{help}"


class TableBatch(Diagnostic):
    """A batch at which the table was not measured.

    Costs depend on the batch, so costs at one batch are not valid for another.

    Wrong:
        scenario talk on h = batch(64, 128 -> 1024)     # the table's `batch` column has 32 only
    Right:
        scenario talk on h = batch(32, 128 -> 1024)
    """

    code = "E1016"
    template = "`{path}` has no rows for scenario `{scenario}` at batch {batch}"
    help_template = "{help}"


class TableParams(Diagnostic):
    """A parameter count that belongs to another model.

    The parameters in a table are compared with those of the parent's shape.

    Wrong:
        layer,attention,ffn,params
        0,gqa2,,999
    Right:
        layer,attention,ffn,params
        0,gqa2,,10304
    """

    code = "E1017"
    template = "`{path}` {line}: {what} has {got} parameters in the table, {expected} in this parent"
    help_template = (
        "the table was made for another parent; without its `params` column counts come from the shape"
    )


class CellsUnreadable(Diagnostic):
    """A file of throughput figures that is missing or empty.

    `pzl calibrate` reads CSV with a header line; lines that start with `#` are notes.

    Wrong:
        # figures.csv holds nothing but notes
    Right:
        # figures.csv:
        # model,gpus,prompt,output,throughput,use
        # llama3_1_8b,1,128,128,28312,fit
    """

    code = "E1041"
    template = "cannot read the figures in `{path}`: {reason}"
    help_template = "CSV with a header line such as `model,gpus,prompt,output,throughput` is expected"


class CellsColumn(Diagnostic):
    """A column of throughput figures that is missing, duplicate or not understood.

    The columns `model`, `prompt`, `output` and `throughput` are required; unknown columns are errors.

    Wrong:
        # model,prompts,output,throughput
    Right:
        # model,prompt,output,throughput
    """

    code = "E1042"
    template = "{problem}"
    help_template = "columns: {columns}"


class CellsValue(Diagnostic):
    """A value of a throughput figure that is not a number or names nothing.

    `hardware` names a profile, `model` a parent of std/parents.pzl, `use` is `fit`, `held_out` or `skip`; lengths,
    GPUs and batch are whole numbers, `throughput` is in tokens per second.

    Wrong:
        # model,gpus,prompt,output,throughput
        # llama_8b,1,128,128,fast
    Right:
        # model,gpus,prompt,output,throughput
        # llama3_1_8b,1,128,128,28312
    """

    code = "E1043"
    template = "{problem}"


class TooFewCells(Diagnostic):
    """Fewer figures to fit than constants.

    Only rows whose `use` is `fit` determine constants; the held-out rows measure how well they predict.

    Wrong:
        # model,gpus,prompt,output,throughput,use
        # llama3_1_8b,1,128,128,28312,held_out
    Right:
        # model,gpus,prompt,output,throughput,use
        # llama3_1_8b,1,128,128,28312,fit
        # … and at least as many such rows as constants
    """

    code = "E1044"
    template = "{cells} cells to fit to do not determine {constants} constants"
    help_template = "write `fit` in the `use` column of at least {constants} rows, or fit fewer constants: `--fit overhead`"


class UnknownProfile(Diagnostic):
    """A profile that is neither shipped nor declared in the file.

    `pzl calibrate` takes the name of a shipped profile, or a file and the name of a profile that it declares.

    Wrong:
        # pzl calibrate h100 --data figures.csv
    Right:
        # pzl calibrate h100_sxm --data figures.csv
        # pzl calibrate mine.pzl:card --data figures.csv
    """

    code = "E1045"
    template = "there is no hardware profile `{name}`"
    help_template = "{help}"
