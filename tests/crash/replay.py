"""replay: reads a recorder log and builds the directory as a power cut could have left it.

Purpose: the two models of a disk that powercut.py judges the server by.
Usage:   disk = Disk(); for event in events(log): disk.apply(event); disk.build(folder, STRICT, dice)
Result:  a folder of files. ORDERED: everything done before the cut is there. STRICT: of a file's content only what a
         completed fsync/fdatasync of that file (or an O_DSYNC descriptor) covered is sure; of what was written since, each
         4 KiB piece survives by chance. A name (create, rename, unlink) is sure only after an fsync of its folder;
         of the later ones a prefix survives by chance, or none.

What is not modelled: torn 512-octet sectors inside a piece, stores through a writable mmap (such files are listed in
`Disk.mapped`; they must not matter), and disks that lie about a flush.
"""

import os
import struct
from collections import namedtuple

HEAD = struct.Struct("<IBBHIIQQQ")
MAGIC = 0x52435031
SYNCED, CREATED, TRUNCATED = 1, 2, 4
PIECE = 4096
ORDERED, STRICT = "ordered", "strict"

Event = namedtuple("Event", "kind flags path data inode offset argument")


def events(path):
    """Every record of a log, in order."""
    with open(path, "rb") as file:
        whole = memoryview(file.read())
    at = 0
    while at + HEAD.size <= len(whole):
        magic, kind, flags, paths, length, _, inode, offset, argument = HEAD.unpack_from(whole, at)
        if magic != MAGIC:
            raise ValueError(f"the log is damaged at octet {at}")
        at += HEAD.size
        name = bytes(whole[at:at + paths]).decode()
        yield Event(chr(kind), flags, name, whole[at + paths:at + paths + length], inode, offset, argument)
        at += paths + length


class File:
    """One inode. `durable` is what is sure on disk, `waiting` the changes since: (serial, what, offset or size, octets, sure)."""

    def __init__(self):
        self.durable, self.waiting, self.whole = bytearray(), [], bytearray()

    def change(self, serial, what, offset, octets, sure):
        apply(self.whole, what, offset, octets)
        self.waiting.append((serial, what, offset, octets, sure))

    def synced(self, until):
        """A sync that began before serial `until` has ended."""
        while self.waiting and self.waiting[0][0] < until:
            _, what, offset, octets, _ = self.waiting.pop(0)
            apply(self.durable, what, offset, octets)

    def content(self, model, dice, chance):
        if model == ORDERED:
            return self.whole
        image = bytearray(self.durable)
        for _, what, offset, octets, sure in self.waiting:
            if sure:
                apply(image, what, offset, octets)
            elif what == "write":
                at = offset
                while at < offset + len(octets):
                    end = min(offset + len(octets), (at // PIECE + 1) * PIECE)
                    if dice.random() < chance:
                        apply(image, what, at, octets[at - offset:end - offset])
                    at = end
            elif dice.random() < chance:
                apply(image, what, offset, octets)
        return image


def apply(image, what, offset, octets):
    if what == "write":
        if len(image) < offset:
            image.extend(bytes(offset - len(image)))
        image[offset:offset + len(octets)] = octets
    elif what == "truncate":
        if offset < len(image):
            del image[offset:]
        else:
            image.extend(bytes(offset - len(image)))
    elif what == "allocate" and offset > len(image):
        image.extend(bytes(offset - len(image)))


class Disk:
    """The directory at one moment of the log, with what is sure and what is not."""

    def __init__(self):
        self.serial = 0
        self.files = {}                       # inode -> File (the newest bearer of that number)
        self.names, self.sure_names = {}, {}  # path -> File, or None for a folder
        self.pending = []                     # (serial, folder, change of names)
        self.folders, self.began = {}, {}     # folder inode -> path; sync serial -> our serial
        self.mapped, self.odd = set(), []
        self.syncs = 0                        # completed syncs, O_DSYNC writes included

    def apply(self, event):
        """Take one event in."""
        self.serial += 1
        kind = event.kind
        if kind == "W":
            sure = bool(event.flags & SYNCED)
            self.file(event).change(self.serial, "write", event.offset, event.data, sure)
            self.syncs += sure
        elif kind == "T":
            self.file(event).change(self.serial, "truncate", event.offset, b"", False)
        elif kind == "A":
            self.file(event).change(self.serial, "allocate", event.offset, b"", False)
        elif kind == "O":
            self.opened(event)
        elif kind == "B":
            self.began[event.inode, event.argument] = self.serial
        elif kind == "E":
            self.synced(event.inode, self.began.pop((event.inode, event.argument)))
        elif kind == "S":
            self.folders[event.inode] = ""
        elif kind == "P":
            self.mapped.update(path for path, file in self.names.items() if file is not None and file is self.files.get(event.inode))
        elif kind in "RULD":
            self.renamed(event)
        elif kind == "X":
            self.odd.append(event.path)

    def file(self, event):
        return self.files.setdefault(event.inode, File())

    def opened(self, event):
        if event.argument:
            self.folders[event.inode] = "" if event.path == "." else event.path
            return
        if event.flags & CREATED or event.inode not in self.files:
            file = self.files[event.inode] = File()
            self.rename_in(self.names, {event.path: file})
            self.pending.append((self.serial, os.path.dirname(event.path), {event.path: file}))
        elif event.flags & TRUNCATED:
            self.file(event).change(self.serial, "truncate", 0, b"", False)

    def renamed(self, event):
        gone = object
        if event.kind == "R":
            to = bytes(event.data).decode()
            change = {event.path: gone, to: self.names.get(event.path)}
        elif event.kind == "U":
            to, change = event.path, {event.path: gone}
        elif event.kind == "L":
            to = bytes(event.data).decode()
            change = {to: self.names.get(event.path)}
        else:
            to, change = event.path, {event.path: None}
        if event.kind in "RL" and event.path not in self.names:
            self.odd.append(f"{event.path} moved without having been seen")
            return
        self.rename_in(self.names, change)
        self.pending.append((self.serial, os.path.dirname(to), change))

    @staticmethod
    def rename_in(names, change):
        for path, file in change.items():
            if file is object:
                names.pop(path, None)
            else:
                names[path] = file

    def synced(self, inode, until):
        self.syncs += 1
        if inode in self.folders:
            folder = self.folders[inode]
            done = [entry for entry in self.pending if entry[1] == folder and entry[0] < until]
            for entry in done:
                self.rename_in(self.sure_names, entry[2])
            self.pending = [entry for entry in self.pending if entry not in done]
        elif inode in self.files:
            self.files[inode].synced(until)

    def build(self, folder, model, dice):
        """Write the directory as it is after a cut now; gives a line on what chance decided."""
        chance = dice.choice((0.0, 0.5, 0.9))
        names, kept = dict(self.names), len(self.pending)
        if model == STRICT:
            names, kept = dict(self.sure_names), dice.choice((0, 0, dice.randint(0, len(self.pending))))
            for _, _, change in self.pending[:kept]:
                self.rename_in(names, change)
        os.makedirs(folder)
        for path, file in sorted(names.items()):
            where = os.path.join(folder, path)
            os.makedirs(where if file is None else os.path.dirname(where), exist_ok=True)
            if file is not None:
                with open(where, "wb") as out:
                    out.write(file.content(model, dice, chance))
        return f"pieces survive with {chance}, {kept} of {len(self.pending)} pending names" if model == STRICT else "all before the cut"
