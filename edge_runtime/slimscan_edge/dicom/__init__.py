"""DICOM radiographs; needs the `dicom` extra, of which nothing is imported before a file is seen to be DICOM."""

from slimscan_edge.dicom.reader import read_dicom

__all__ = ["read_dicom"]
