"""Packages: one import name, `suite`; the content folders are mapped beneath it.

So code says what the disk says (`suite.kernels` is `kernels/`) and nothing called `kernels` lands in
site-packages, where it would shadow another distribution's. The rest of the metadata is in pyproject.toml.
"""

from setuptools import find_namespace_packages, setup

CONTENT = ("kernels", "workloads", "reports")

packages = ["suite", *(f"suite.{name}" for name in find_namespace_packages("suite"))]
for folder in CONTENT:
    packages += [f"suite.{folder}", *(f"suite.{folder}.{name}" for name in find_namespace_packages(folder))]

setup(
    packages=packages,
    py_modules=["sparsemark"],
    package_dir={f"suite.{folder}": folder for folder in CONTENT},
    package_data={"": ["*.cpp", "*.cu", "*.cuh", "*.h", "*.html", "*.css", "*.js", "*.csv", "*.safetensors"]},
)
