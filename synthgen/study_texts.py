"""What does a study file look like before anybody fills it in? A commented text for each kind of data."""

_TABLE = """\
# A study: read, split, fit, sample, audit, decide, release.
# Run it with:  synthgen run study.yaml -o RUN      (--dry-run shows the job first)

data:
  table: patients.csv        # CSV, TSV, Parquet, Arrow or Excel; relative to this file
  # schema: patients.schema.yaml   # made by: synthgen schema infer patients.csv -o patients.schema.yaml
  # target: died             # a column that a model would predict; without it utility is not measured
  # patient: patient_id      # rows with equal values are one patient; without it each row is one
  # encoding: latin-1        # of a text file that is not UTF-8

split:
  holdout: 0.3               # share of patients that no generator sees; the audit needs it

generator:
  name: diffusion            # synthgen list generators
  settings:
    max_seconds: 120         # synthgen describe diffusion
# or several, of which the best that passes the policy is released:
# generator: [copula, {name: diffusion, settings: {max_seconds: 120}}]

sample:
  # rows: 5000               # by default as many as there are train rows
  # where: {sex: F}          # columns held at one value in every row
  # balance: [sex, died]     # as many rows of each cell; or explicit: cells: [{sex: F, died: 1, rows: 200}, ...]

"""
_IMAGES = """\
# A study of images: read, split, fit, sample, audit, decide, release.
# Run it with:  synthgen run study.yaml -o RUN      (--dry-run shows the job first)

data:
  images: scans              # folder, zip or tar of DICOM, PNG, JPEG or NPY; or an .npz; relative to this file
  # labels: labels.csv       # by default labels.csv of the folder; columns PatientID, StudyInstanceUID, ..., or file
  # target: finding          # a column that a model would predict; images go by it
  # unit: volume             # a series of slices is one image; by default each slice is

split:
  holdout: 0.3               # share of patients that no generator sees; the audit needs it

generator:
  name: image-diffusion      # synthgen list generators
  settings:
    max_seconds: 600         # synthgen describe image-diffusion
    # size: 64               # pixels of the longer side
# or several, of which the best that passes the policy is released:
# generator: [image-pca, {name: image-diffusion, settings: {max_seconds: 600}}]

sample:
  # rows: 5000               # images; by default as many as train has. More images show smaller leaks
  # as: png                  # in place of DICOM
  # modality: DX             # of DICOM; by default that of train, or Secondary Capture

"""
_COHORT = """\
# A study of patients and their images: read, link, split, fit, sample, audit, decide, release.
# Run it with:  synthgen run study.yaml -o RUN      (--dry-run shows the job first)

data:
  table: patients.csv        # one row for each patient; relative to this file
  images: scans              # their images: DICOM, or pictures whose labels.csv has a column patient
  patient: patient_id        # column of the table: the PatientID of the images
  # target: died             # a column that a model would predict

images:
  finding: finding           # the column that the images show; it goes into their headers
  # condition_on: [finding, sex, age_years]   # what an image is drawn for; this is the default
  # headers: {sex: gender, age_years: age, study_date: admitted}   # columns that are called otherwise
  generator:
    name: image-diffusion
    settings:
      max_seconds: 600       # synthgen describe image-diffusion

split:
  holdout: 0.3               # share of patients that no generator sees; the audit needs it

generator:                   # of the records
  name: diffusion
  settings:
    max_seconds: 120

sample:
  # rows: 5000               # patients; by default as many as train has
  # balance: [sex, finding]  # as many of each cell; or explicit: cells: [{sex: F, finding: nodule, rows: 200}, ...]

"""
_REST = """\
policy: research-share       # internal | research-share | public, or a file of your own
# licence: CC BY 4.0         # of the release: a name, or the address of its text
seed: 7
"""
TEMPLATES = {"table": _TABLE + _REST, "images": _IMAGES + _REST, "cohort": _COHORT + _REST}
