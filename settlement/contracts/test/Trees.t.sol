// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {LedgerTest} from "./LedgerTest.sol";
import {Tree} from "./Tree.sol";
import {vm} from "./Vm.sol";

/// @notice The ledger agrees with the golden trees of OpenZeppelin's JavaScript library (tests/golden/trees/).
contract TreesTest is LedgerTest {
    uint256[5] private sizes = [uint256(1), 2, 3, 7, 64];

    function test_golden_payouts_are_paid() public {
        for (uint256 s = 0; s < sizes.length; ++s) {
            (string memory json, uint256 size) = read("payouts", sizes[s]);
            setUp();
            vm.prank(ADMIN);
            ledger.setMaxRate(type(uint96).max);
            token.mint(address(ledger), type(uint96).max);
            uint256 one = post(vm.parseJsonBytes32(json, ".root"), type(uint96).max);
            attest(one);
            wait(DELAY);
            bytes32[] memory leaves = new bytes32[](size);
            for (uint256 i = 0; i < size; ++i) {
                leaves[i] = checkPayout(one, json, i);
            }
            vm.assertEq(Tree.nodesOf(leaves)[0], vm.parseJsonBytes32(json, ".root"), "the tests' own builder");
        }
    }

    function test_golden_windows_are_verified() public {
        for (uint256 s = 0; s < sizes.length; ++s) {
            (string memory json, uint256 size) = read("windows", sizes[s]);
            setUp();
            bytes32 head = ledger.head();
            bytes32 root = vm.parseJsonBytes32(json, ".root");
            vm.prank(POSTER);
            ledger.post(1, head, root, "payouts", "manifest", uint64(START - 1), uint64(START), 0, 0);
            for (uint256 i = 0; i < size; ++i) {
                checkWindow(json, i);
            }
        }
    }

    function checkPayout(uint256 sequence, string memory json, uint256 i) internal view returns (bytes32 leaf) {
        string[] memory value = valueOf(json, i);
        (address account, uint256 cumulative) = (vm.parseAddress(value[0]), vm.parseUint(value[1]));
        vm.assertEq(ledger.claimable(account, sequence, cumulative, proofOf(json, i)), cumulative, "claimable");
        leaf = vm.parseJsonBytes32(json, string.concat(leafKey(i), ".hash"));
        vm.assertEq(leaf, Tree.payoutLeaf(account, cumulative), "leaf");
    }

    function checkWindow(string memory json, uint256 i) internal view {
        string[] memory value = valueOf(json, i);
        ISettlementLedger.WindowLeaf memory leaf = ISettlementLedger.WindowLeaf({
            machine: vm.parseBytes32(value[0]),
            start: uint64(vm.parseUint(value[1])),
            end: uint64(vm.parseUint(value[2])),
            adjusts: uint64(vm.parseUint(value[3])),
            net: vm.parseInt(value[4]),
            windowDigest: vm.parseBytes32(value[5])
        });
        bytes32[] memory proof = proofOf(json, i);
        vm.assertTrue(ledger.verifyWindow(1, leaf, proof), "in the post");
        vm.assertTrue(!ledger.verifyWindow(0, leaf, proof), "not in the empty post");
        vm.assertTrue(!ledger.verifyWindow(2, leaf, proof), "not in a post to come");
        leaf.net += 1;
        vm.assertTrue(!ledger.verifyWindow(1, leaf, proof), "not with another amount");
    }

    function read(string memory kind, uint256 size) internal view returns (string memory, uint256) {
        string memory name = string.concat(kind, "_", vm.toString(size), ".json");
        return (vm.readFile(string.concat("../../tests/golden/trees/", name)), size);
    }

    function leafKey(uint256 i) internal pure returns (string memory) {
        return string.concat(".leaves[", vm.toString(i), "]");
    }

    function valueOf(string memory json, uint256 i) internal pure returns (string[] memory) {
        return vm.parseJsonStringArray(json, string.concat(leafKey(i), ".value"));
    }

    function proofOf(string memory json, uint256 i) internal pure returns (bytes32[] memory) {
        return vm.parseJsonBytes32Array(json, string.concat(leafKey(i), ".proof"));
    }
}
