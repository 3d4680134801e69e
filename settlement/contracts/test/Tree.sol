// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

/// @notice A small standard-v1 builder: leaves ascend, an array of 2n-1 nodes, root first, leaf k at 2n-2-k.
library Tree {
    function payoutLeaf(address account, uint256 cumulative) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
    }

    function nodesOf(bytes32[] memory leaves) internal pure returns (bytes32[] memory nodes) {
        bytes32[] memory sorted = _sorted(leaves);
        uint256 count = sorted.length;
        nodes = new bytes32[](2 * count - 1);
        for (uint256 k = 0; k < count; ++k) {
            nodes[2 * count - 2 - k] = sorted[k];
        }
        for (uint256 i = count - 1; i > 0; --i) {
            nodes[i - 1] = Hashes.commutativeKeccak256(nodes[2 * i - 1], nodes[2 * i]);
        }
    }

    function proofOf(bytes32[] memory nodes, bytes32 leaf) internal pure returns (bytes32[] memory proof) {
        uint256 position = nodes.length / 2;
        while (nodes[position] != leaf) ++position; // Reads past the end, and so fails, where the leaf is not in the tree.
        uint256 depth = 0;
        for (uint256 i = position; i > 0; i = (i - 1) / 2) {
            ++depth;
        }
        proof = new bytes32[](depth);
        uint256 filled = 0;
        for (uint256 i = position; i > 0; i = (i - 1) / 2) {
            proof[filled++] = nodes[i % 2 == 0 ? i - 1 : i + 1];
        }
    }

    function _sorted(bytes32[] memory leaves) private pure returns (bytes32[] memory sorted) {
        sorted = new bytes32[](leaves.length);
        for (uint256 i = 0; i < leaves.length; ++i) {
            uint256 j = i;
            for (; j > 0 && sorted[j - 1] > leaves[i]; --j) {
                sorted[j] = sorted[j - 1];
            }
            sorted[j] = leaves[i];
        }
    }
}
