-- The filters of old segments, for which there is no room in memory (see key_archive.rs): the same bits as in
-- segments.key_filter, so put together that those of an area of 512 segments that belong to one place of the filter lie
-- side by side. A block is as many such rows as a page holds; one that is not there is all zeros. They can be made anew.
CREATE TABLE key_filter_blocks (
    block INTEGER PRIMARY KEY, -- area << 16, and the number of the block in it
    bits  BLOB NOT NULL
) STRICT;
