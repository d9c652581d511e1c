"""What a bundle and its report say of the model's data, its use, its limits, and the tools that made it."""

from importlib.metadata import version
from pathlib import Path

from slimscan_edge.classifier import NOT_A_MEDICAL_DEVICE
from slimscan_train.run import Run

LIMITS = (
    "The figures hold for images like those described under Data. Another clinic's machines, ages or diseases may give "
    "others: score your own labelled images before relying on any of them.",
    "Both models' thresholds were chosen on all of these patients, so that their figures flatter both.",
    "That int8 answers as float does, which is what the gates decide, does not make the float model right: "
    "what both miss counts against neither here.",
    "A model may also go by what the frame shows beside the lungs. Give it pictures as the machine framed them; the "
    "figures under crop-height and crop-width say what another frame does.",
    "The evidence map shows which regions raised the score. It outlines no disease, and a probability is no severity.",
)
_KERMANY = {
    "description": "Paediatric chest X-rays, antero-posterior, ages one to five, "
    "Guangzhou Women and Children's Medical Center",
    "attribution": "Kermany, Zhang, Goldbaum: Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images "
    "for Classification, Mendeley Data, doi 10.17632/rscbjbr9sj; Kermany et al., Cell 172 (2018) 1122-1131",
    "licence": "CC BY 4.0",
    "basis": "recognised by how the files are named; if yours only bear such names, none of this holds",
}
_V7_LABS = (
    "of the lungs, drawn by people: V7 Labs, COVID-19 X-ray dataset (github.com/v7labs/covid-19-xray-dataset), "
    "annotations CC BY 4.0"
)
_UNDECLARED = {
    "description": "a data set of the user's own",
    "attribution": "not declared",
    "licence": "not declared",
}
_TOOLS = ("slimscan", "tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert", "numpy", "pillow")


def intended_use(run: Run) -> str:
    """What a run's model is for, and what it is not, as far as the naming of its images tells whom they show."""
    of = "frontal chest X-rays of children" if run.split.naming == "kermany" else "X-rays like those it was trained on"
    not_of = "not for adults, " if run.split.naming == "kermany" else ""
    return (
        f"Research and education: a second look at {of}, by people trained to read them. Not for diagnosis, {not_of}"
        f"not for other views or devices than those it was validated on. {NOT_A_MEDICAL_DEVICE}"
    )


def training_data(run: Run) -> dict[str, str]:
    """Description, attribution and licence of a run's images, as far as their naming tells, and how they were split."""
    outlines = {"outlines": _outlines(run.lungs)} if run.lungs else {}
    return {**(_KERMANY if run.split.naming == "kermany" else _UNDECLARED), **outlines, "split": run.split.describe()}


def _outlines(folder: Path) -> str:
    """Whose outlines of the lungs they are, recognised by the table that goes with the publisher's masks."""
    return _V7_LABS if (folder / "lungs.csv").exists() else "of the lungs; attribution and licence not declared"


def tool_versions() -> dict[str, str]:
    """The installed version of each tool that a model passes through."""
    return {tool: version(tool) for tool in _TOOLS}
