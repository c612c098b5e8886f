"""How do collections of images come in? DICOM folders and archives, picture folders, arrays."""
