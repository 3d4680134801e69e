// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";

import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {SettlementLedger} from "../src/SettlementLedger.sol";
import {TestToken} from "./Tokens.sol";
import {Tree} from "./Tree.sol";
import {bound, vm} from "./Vm.sol";

/// @notice A ledger on a production chain id, funded with a million, and the hands that work it.
abstract contract LedgerTest {
    address internal immutable ADMIN = address(new SlowAdmin(DELAY));
    address internal constant POSTER = address(0xA2);
    address internal constant AUDITOR = address(0xA3);
    address internal constant GUARDIAN = address(0xA4);
    address internal constant AUDITOR_2 = address(0xA5);
    address internal constant AUDITOR_3 = address(0xA6);
    address internal constant ALICE = address(0xB1);
    address internal constant BOB = address(0xB2);
    address internal constant CAROL = address(0xB3);
    address internal constant ANYONE = address(0xC1);

    uint256 internal constant MONEY = 1_000_000e6;
    uint256 internal constant START = 1_700_000_000;
    uint48 internal constant DELAY = 48 hours;

    TestToken internal token;
    SettlementLedger internal ledger;

    /// @dev A payouts tree as its parts, in the order given.
    struct Payouts {
        address[] accounts;
        uint256[] cumulatives;
        bytes32[] nodes;
        uint256 total;
    }

    function setUp() public virtual {
        vm.chainId(1);
        vm.warp(START);
        token = new TestToken(6);
        ledger = deploy(token, DELAY);
        token.mint(address(ledger), MONEY);
    }

    function deploy(IERC20Metadata token_, uint48 delay) internal returns (SettlementLedger) {
        return new SettlementLedger(settingsOf(token_, delay), hands());
    }

    function settingsOf(IERC20Metadata token_, uint48 delay)
        internal
        pure
        returns (ISettlementLedger.Settings memory)
    {
        // A day of posts may add all of the money; they settle seconds here, so the rate is that much higher.
        return ISettlementLedger.Settings(address(token_), "USD", delay, MONEY * 1 days, uint64(START - 1 days), "log");
    }

    function hands() internal view virtual returns (ISettlementLedger.Hands memory) {
        return handsOf(ADMIN, alone(AUDITOR), 1);
    }

    function handsOf(address admin, address[] memory auditors, uint8 quorum)
        internal
        pure
        returns (ISettlementLedger.Hands memory)
    {
        return ISettlementLedger.Hands(admin, POSTER, auditors, alone(GUARDIAN), quorum);
    }

    function threeAuditors() internal pure returns (address[] memory auditors) {
        auditors = new address[](3);
        (auditors[0], auditors[1], auditors[2]) = (AUDITOR, AUDITOR_2, AUDITOR_3);
    }

    function alone(address account) internal pure returns (address[] memory accounts) {
        accounts = new address[](1);
        accounts[0] = account;
    }

    // ------------------------------------------------------------------------------------------------- Posting

    function post(bytes32 payoutsRoot, uint256 total) internal returns (uint256) {
        return post(payoutsRoot, total, 0);
    }

    /// @dev Posts the second that has just begun, so that any number of posts fits without waiting.
    function post(bytes32 payoutsRoot, uint256 total, uint256 deposits) internal returns (uint256 sequence) {
        sequence = ledger.nextSequence();
        bytes32 head = ledger.head();
        vm.warp(block.timestamp + 1);
        uint64 end = uint64(block.timestamp);
        vm.prank(POSTER);
        ledger.post(
            sequence, head, keccak256("windows"), payoutsRoot, keccak256("manifest"), end - 1, end, total, deposits
        );
    }

    function post(Payouts memory payouts) internal returns (uint256) {
        return post(rootOf(payouts), payouts.total);
    }

    function attest(uint256 sequence) internal {
        attest(sequence, AUDITOR);
    }

    function attest(uint256 sequence, address auditor) internal {
        bytes32 head = ledger.head();
        vm.prank(auditor);
        ledger.attest(sequence, head);
    }

    function dispute(uint256 sequence) internal {
        bytes32 head = ledger.head();
        vm.prank(GUARDIAN);
        ledger.dispute(sequence, head);
    }

    function revoke(uint256 sequence) internal {
        vm.prank(ADMIN);
        ledger.revoke(sequence);
    }

    function wait(uint256 time) internal {
        vm.warp(block.timestamp + time);
    }

    function activate(Payouts memory payouts) internal returns (uint256 sequence) {
        sequence = post(payouts);
        attest(sequence);
        wait(DELAY);
    }

    // ------------------------------------------------------------------------------------------------- Payouts

    function payoutsOf(address[] memory accounts, uint256[] memory cumulatives)
        internal
        pure
        returns (Payouts memory payouts)
    {
        payouts.accounts = accounts;
        payouts.cumulatives = cumulatives;
        bytes32[] memory leaves = new bytes32[](accounts.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            leaves[i] = Tree.payoutLeaf(accounts[i], cumulatives[i]);
            payouts.total += cumulatives[i];
        }
        payouts.nodes = Tree.nodesOf(leaves);
    }

    function payoutsOf(address account, uint256 cumulative) internal pure returns (Payouts memory) {
        address[] memory accounts = new address[](1);
        uint256[] memory cumulatives = new uint256[](1);
        (accounts[0], cumulatives[0]) = (account, cumulative);
        return payoutsOf(accounts, cumulatives);
    }

    /// @dev Alice, Bob and Carol.
    function payoutsOf(uint256 alice, uint256 bob, uint256 carol) internal pure returns (Payouts memory) {
        address[] memory accounts = new address[](3);
        uint256[] memory cumulatives = new uint256[](3);
        (accounts[0], accounts[1], accounts[2]) = (ALICE, BOB, CAROL);
        (cumulatives[0], cumulatives[1], cumulatives[2]) = (alice, bob, carol);
        return payoutsOf(accounts, cumulatives);
    }

    function rootOf(Payouts memory payouts) internal pure returns (bytes32) {
        return payouts.nodes[0];
    }

    function proofOf(Payouts memory payouts, uint256 i) internal pure returns (bytes32[] memory) {
        return Tree.proofOf(payouts.nodes, Tree.payoutLeaf(payouts.accounts[i], payouts.cumulatives[i]));
    }

    // ------------------------------------------------------------------------------------------------ Claiming

    function claim(uint256 sequence, Payouts memory payouts, uint256 i) internal returns (uint256) {
        return ledger.claim(payouts.accounts[i], sequence, payouts.cumulatives[i], proofOf(payouts, i));
    }

    function expectClaimRefused(uint256 sequence, Payouts memory payouts, uint256 i, bytes memory reason) internal {
        bytes32[] memory proof = proofOf(payouts, i);
        vm.expectRevert(reason);
        ledger.claim(payouts.accounts[i], sequence, payouts.cumulatives[i], proof);
    }

    function expectNotActive(uint256 sequence, Payouts memory payouts, uint256 i) internal {
        expectClaimRefused(sequence, payouts, i, abi.encodeWithSelector(ISettlementLedger.PostNotActive.selector, sequence));
        vm.assertEq(
            ledger.claimable(payouts.accounts[i], sequence, payouts.cumulatives[i], proofOf(payouts, i)),
            0,
            "nothing is claimable of a post that is not active"
        );
    }

    function batchOf(Payouts memory payouts) internal pure returns (ISettlementLedger.Payout[] memory batch) {
        batch = new ISettlementLedger.Payout[](payouts.accounts.length);
        for (uint256 i = 0; i < batch.length; ++i) {
            batch[i] = ISettlementLedger.Payout(payouts.accounts[i], payouts.cumulatives[i], proofOf(payouts, i));
        }
    }
}

/// @notice What a ledger asks of its admin; the tests act in its name.
contract SlowAdmin {
    uint256 public immutable getMinDelay;

    constructor(uint256 delay) {
        getMinDelay = delay;
    }
}
