"""DICOM objects: what a folder of them holds, how they are written, and how they reach an archive."""
